//! What rules say about a URL, with all that a person needs to change their mind.

use http::Method;
use orch_proxy::{Methods, Miss, Reason, RequestTarget, Rule, Verdict, decide, nearest};

/// What is said about one request.
#[derive(Debug)]
pub(super) struct Judgement {
    /// Where it would go; none when the text does not say so clearly.
    pub(super) target: Option<RequestTarget>,
    /// The rule that allows it, by its place in the policy; or why none does.
    pub(super) verdict: Result<usize, Reason>,
    /// The rule that came nearest, and which of its fields does not fit.
    pub(super) nearest: Option<(usize, Miss)>,
}

/// Judges a request for a URL with this method.
pub(super) fn request(rules: &[Rule], url: &str, method: &Method) -> Judgement {
    let target = match RequestTarget::of_url(url) {
        Ok(target) => target,
        Err(reason) => return Judgement { target: None, verdict: Err(reason), nearest: None },
    };
    if let Err(reason) = RequestTarget::check_method(method) {
        return Judgement { target: Some(target), verdict: Err(reason), nearest: None };
    }
    let asked = target.asked(method);
    let (verdict, nearest) = match decide(rules, &asked) {
        Verdict::Allow { rule } => (Ok(rule), None),
        Verdict::Deny(reason) => {
            // A name that no rule allows has no rule near it.
            let near = reason.rule_missing.is_some().then(|| nearest(rules, &asked)).flatten();
            (Err(reason), near)
        }
    };
    Judgement { target: Some(target), verdict, nearest }
}

/// Judges a URL alone: with GET, or else with whichever method a rule for it names. Says which it was.
pub(super) fn any_method(rules: &[Rule], url: &str) -> (Judgement, Method) {
    let first = request(rules, url, &Method::GET);
    if !matches!(first.nearest, Some((_, Miss::Method | Miss::Path))) {
        return (first, Method::GET);
    }
    let target = first.target.as_ref();
    let near = |rule: &&Rule| target.is_some_and(|target| rule.host.matches(&target.host));
    let named = rules.iter().filter(near).flat_map(|rule| match &rule.methods {
        Methods::Only(methods) => methods.as_slice(),
        Methods::Any => &[],
    });
    let mut tried = vec![Method::GET];
    for method in named {
        if tried.contains(method) {
            continue;
        }
        tried.push(method.clone());
        let judgement = request(rules, url, method);
        if judgement.verdict.is_ok() {
            return (judgement, method.clone());
        }
    }
    (first, Method::GET)
}

#[cfg(test)]
mod tests {
    use orch_manifests::{EgressWant, Format};

    use super::*;
    use crate::commands::policy::granted;

    fn rules(text: &str) -> Vec<Rule> {
        granted(&EgressWant::list_in(text, Format::Yaml, "x", &[]).expect("a list").expect("there"))
    }

    #[test]
    fn a_url_is_allowed_with_the_method_that_a_rule_names() {
        let rules = rules(
            "[{ host: a.example.com, methods: [POST], paths: [/in] }, { host: a.example.com, methods: [PUT, DELETE] }]",
        );
        for (url, method, rule) in [
            ("https://a.example.com/in", Method::POST, Some(0)),
            ("https://a.example.com/out", Method::PUT, Some(1)),
            ("https://b.example.com/in", Method::GET, None),
            ("https://a.example.com:8443/in", Method::GET, None),
        ] {
            let (judgement, with) = any_method(&rules, url);
            assert_eq!((with, judgement.verdict.ok()), (method, rule), "{url}");
        }
    }

    #[test]
    fn the_nearest_rule_is_the_one_with_the_least_to_change() {
        let rules = rules(
            "[{ host: a.example.com, port: 1 }, { host: b.example.com }, { host: a.example.com, methods: [PUT] }]",
        );
        let near = |url: &str| request(&rules, url, &Method::GET).nearest;
        assert_eq!(near("https://a.example.com/"), Some((2, Miss::Method)));
        assert_eq!(near("http://b.example.com/"), Some((1, Miss::Scheme)));
        assert_eq!(near("https://c.example.com/"), None);
        assert_eq!(near("https://localhost/"), None);
        let judgement = request(&rules, "https://b.example.com/", &Method::TRACE);
        assert_eq!(judgement.verdict.expect_err("refused").code, "method_refused");
    }
}
