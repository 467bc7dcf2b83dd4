//! The fewest rules: sets of methods with sets of paths that together are exactly what was asked for.

use std::collections::{BTreeMap, BTreeSet};

/// Steps that the search for the fewest may take. Beyond that the better of two simple groupings is used; both are exact.
const STEPS: usize = 200_000;

/// One rule: each of the methods at each of the paths.
pub(super) type Rectangle = (BTreeSet<String>, BTreeSet<String>);

/// Rules that allow exactly these methods of each path.
pub(super) fn fewest(asked: &BTreeMap<String, BTreeSet<String>>) -> Vec<Rectangle> {
    let simple = [by_methods(asked), by_paths(asked)].into_iter().min_by_key(Vec::len).unwrap_or_default();
    let candidates = candidates(asked);
    let mut steps = STEPS;
    for count in 1..simple.len() {
        if let Some(found) = search(asked, &candidates, &BTreeSet::new(), count, &mut steps) {
            return trimmed(found);
        }
    }
    simple
}

/// Paths with the same methods stand together.
fn by_methods(asked: &BTreeMap<String, BTreeSet<String>>) -> Vec<Rectangle> {
    let mut groups: BTreeMap<&BTreeSet<String>, BTreeSet<String>> = BTreeMap::new();
    for (path, methods) in asked {
        groups.entry(methods).or_default().insert(path.clone());
    }
    groups.into_iter().map(|(methods, paths)| (methods.clone(), paths)).collect()
}

/// Methods with the same paths stand together.
fn by_paths(asked: &BTreeMap<String, BTreeSet<String>>) -> Vec<Rectangle> {
    let mut paths: BTreeMap<&String, BTreeSet<String>> = BTreeMap::new();
    for (path, methods) in asked {
        for method in methods {
            paths.entry(method).or_default().insert(path.clone());
        }
    }
    let mut groups: BTreeMap<BTreeSet<String>, BTreeSet<String>> = BTreeMap::new();
    for (method, paths) in paths {
        groups.entry(paths).or_default().insert(method.clone());
    }
    groups.into_iter().map(|(paths, methods)| (methods, paths)).collect()
}

/// Every rule that cannot grow without allowing more than what was asked for. Its methods are what some paths have in
/// common.
fn candidates(asked: &BTreeMap<String, BTreeSet<String>>) -> Vec<Rectangle> {
    let kinds: BTreeSet<&BTreeSet<String>> = asked.values().collect();
    let mut common: BTreeSet<BTreeSet<String>> = BTreeSet::new();
    for kind in kinds {
        let met: Vec<BTreeSet<String>> = common.iter().map(|known| known & kind).collect();
        common.extend(met.into_iter().filter(|met| !met.is_empty()));
        common.insert(kind.clone());
    }
    let whole = |methods: BTreeSet<String>| {
        let paths = asked.iter().filter(|(_, has)| methods.is_subset(has)).map(|(path, _)| path.clone());
        let paths = paths.collect();
        (methods, paths)
    };
    common.into_iter().map(whole).collect()
}

/// As many candidates as `count` that cover what is not covered yet.
fn search<'a>(
    asked: &'a BTreeMap<String, BTreeSet<String>>,
    candidates: &'a [Rectangle],
    covered: &BTreeSet<(&'a String, &'a String)>,
    count: usize,
    steps: &mut usize,
) -> Option<Vec<Rectangle>> {
    let all = asked.iter().flat_map(|(path, methods)| methods.iter().map(move |method| (path, method)));
    let Some((path, method)) = all.into_iter().find(|pair| !covered.contains(pair)) else {
        return Some(Vec::new());
    };
    if count == 0 {
        return None;
    }
    for (methods, paths) in
        candidates.iter().filter(|(methods, paths)| methods.contains(method) && paths.contains(path))
    {
        *steps = steps.checked_sub(paths.len())?;
        let mut covered = covered.clone();
        covered.extend(paths.iter().flat_map(|path| methods.iter().map(move |method| (path, method))));
        if let Some(mut rest) = search(asked, candidates, &covered, count - 1, steps) {
            rest.insert(0, (methods.clone(), paths.clone()));
            return Some(rest);
        }
    }
    None
}

/// Without paths of a rule that other rules allow whole: said once is enough.
fn trimmed(mut rules: Vec<Rectangle>) -> Vec<Rectangle> {
    for at in 0..rules.len() {
        let (methods, paths) = rules[at].clone();
        let elsewhere = |path: &String, method: &String| {
            rules
                .iter()
                .enumerate()
                .any(|(other, (m, p))| other != at && m.contains(method) && p.contains(path))
        };
        let needed: BTreeSet<String> =
            paths.into_iter().filter(|path| !methods.iter().all(|method| elsewhere(path, method))).collect();
        rules[at].1 = needed;
    }
    rules.retain(|(_, paths)| !paths.is_empty());
    rules
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asked(rows: &[(&str, &str)]) -> BTreeMap<String, BTreeSet<String>> {
        let methods = |text: &str| text.split(' ').map(str::to_owned).collect();
        rows.iter().map(|(path, of)| ((*path).to_owned(), methods(of))).collect()
    }

    fn pairs(rules: &[Rectangle]) -> BTreeSet<(String, String)> {
        let of = |(methods, paths): &Rectangle| -> Vec<(String, String)> {
            paths.iter().flat_map(|path| methods.iter().map(move |m| (path.clone(), m.clone()))).collect()
        };
        rules.iter().flat_map(of).collect()
    }

    #[test]
    fn rules_are_as_few_as_can_be() {
        for (rows, count) in [
            (&[][..], 0),
            (&[("/a", "GET")], 1),
            (&[("/a", "GET POST"), ("/b", "GET POST")], 1),
            (&[("/a", "GET"), ("/b", "POST")], 2),
            // Three sets of methods, and two rules.
            (&[("/a", "GET"), ("/b", "GET POST"), ("/c", "POST")], 2),
            // Four sets of methods, four of paths, and three rules.
            (&[("/a", "GET PUT"), ("/b", "GET PUT POST"), ("/c", "POST PATCH"), ("/d", "PATCH PUT GET")], 3),
        ] {
            assert_eq!(fewest(&asked(rows)).len(), count, "{rows:?}");
        }
    }

    proptest! {
        #[test]
        fn rules_allow_exactly_what_was_asked_for(
            asked in proptest::collection::btree_map("/[a-f]", proptest::collection::btree_set("[A-E]", 1..5), 0..6)
        ) {
            let rules = fewest(&asked);
            let wanted: BTreeSet<(String, String)> = asked
                .iter()
                .flat_map(|(path, methods)| methods.iter().map(move |m| (path.clone(), m.clone())))
                .collect();
            prop_assert_eq!(pairs(&rules), wanted);
            prop_assert!(rules.len() <= by_methods(&asked).len().min(by_paths(&asked).len()));
        }
    }
}
