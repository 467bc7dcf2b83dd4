//! How hard a model should think, where one dialect says it in words and another in tokens.

/// The budget that a word stands for, as Google's own OpenAI-compatible endpoint understands it. `None` for words of nobody's.
pub(super) fn budget_of(effort: &str) -> Option<u64> {
    match effort {
        "minimal" | "low" => Some(1_024),
        "medium" => Some(8_192),
        "high" | "xhigh" | "max" => Some(24_576),
        _ => None,
    }
}

/// The word that is nearest to a budget.
pub(super) fn word_for(budget: u64) -> &'static str {
    match budget {
        0..4_096 => "low",
        4_096..16_384 => "medium",
        _ => "high",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_s_budget_is_said_in_that_word() {
        for word in ["low", "medium", "high"] {
            assert_eq!(budget_of(word).map(word_for), Some(word));
        }
        assert_eq!(budget_of("enormous"), None);
    }
}
