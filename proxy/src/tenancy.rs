//! Who may share a connection with whom, before it comes to origins and routes.

use std::fmt::Display;

use http::Method;
use orch_manifests::{HostPattern, PathGlob, Scheme};
use ring::digest::{Context, SHA256};

use crate::{Binding, Credential, Grant, Methods, Place, Rule, Target};

/// A digest over a workspace and all that a grant lets a run do there: its rules, and which credentials it may use
/// where. Runs of the same agent under the same policy have the same; what differs between two of them, such as
/// placeholders, bounds and who wrote a rule, is not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Tenancy([u8; 32]);

impl Tenancy {
    /// Worked out once for each grant, and again when some of its rules are taken back.
    pub(crate) fn of(grant: &Grant, rules: &[Rule]) -> Self {
        // The order in which rules and bindings are written means nothing.
        let rules = sorted(rules.iter().map(rule));
        let bindings = sorted(grant.bindings.iter().map(binding));
        Self::digest(&[line(&[&grant.workspace]), rules, bindings])
    }

    /// The same with a credential that is not in the grant, because the gateway chose it.
    pub(crate) fn using(self, credential: &dyn Credential) -> Self {
        Self::digest(&[self.0.to_vec(), line(&[&credential.id(), &credential.source()])])
    }

    /// One for tests, which no grant has.
    #[cfg(test)]
    pub(crate) fn numbered(number: u8) -> Self {
        Self([number; 32])
    }

    fn digest(parts: &[Vec<u8>]) -> Self {
        let mut context = Context::new(&SHA256);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut sum = [0; 32];
        sum.copy_from_slice(context.finish().as_ref());
        Self(sum)
    }
}

fn rule(rule: &Rule) -> Vec<u8> {
    let Rule { scheme, host, port, methods, paths, origin: _ } = rule;
    place(*scheme, host, *port, methods, paths)
}

fn target(target: &Target) -> Vec<u8> {
    let Target { scheme, host, port, methods, paths } = target;
    place(*scheme, host, *port, methods, paths)
}

fn binding(binding: &Binding) -> Vec<u8> {
    let Binding { placeholder: _, credential, targets, place } = binding;
    let (kind, name): (&str, &dyn Display) = match place {
        Place::Header(header) => ("header", header),
        Place::Query(name) => ("query", name),
    };
    let mut bytes = line(&[&credential.id(), &credential.source(), &kind, name]);
    bytes.extend(sorted(targets.iter().map(target)));
    bytes
}

fn place(scheme: Scheme, host: &HostPattern, port: u16, methods: &Methods, paths: &[PathGlob]) -> Vec<u8> {
    let mut bytes = line(&[&scheme, host, &port]);
    match methods {
        Methods::Any => bytes.extend(line(&[&"any"])),
        Methods::Only(methods) => {
            bytes.extend(sorted(methods.iter().map(|method: &Method| line(&[method]))));
        }
    }
    bytes.extend(sorted(paths.iter().map(|path| line(&[path]))));
    bytes
}

/// Texts one after the other, each behind its length, so that no two lists look the same.
fn line(texts: &[&dyn Display]) -> Vec<u8> {
    framed(texts.iter().map(|text| text.to_string().into_bytes()))
}

fn sorted(items: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut items: Vec<Vec<u8>> = items.collect();
    items.sort_unstable();
    framed(items.into_iter())
}

fn framed(items: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let (mut count, mut bytes) = (0u64, vec![0; 8]);
    for item in items {
        count += 1;
        bytes.extend((item.len() as u64).to_be_bytes());
        bytes.extend(item);
    }
    bytes[..8].copy_from_slice(&count.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_lists_look_the_same() {
        let lists: [&[&dyn Display]; 6] = [&[], &[&""], &[&"", &""], &[&"ab"], &[&"a", &"b"], &[&"b", &"a"]];
        for (index, one) in lists.iter().enumerate() {
            for (other_index, other) in lists.iter().enumerate() {
                assert_eq!(line(one) == line(other), index == other_index);
            }
        }
    }

    #[test]
    fn every_method_is_not_the_same_as_none() {
        let host: HostPattern = "a.example.com".parse().unwrap();
        let of = |methods| place(Scheme::Https, &host, 443, &methods, &[]);
        assert_ne!(of(Methods::Any), of(Methods::Only(Vec::new())));
        let (get, put) = (Method::GET, Method::PUT);
        let both = of(Methods::Only(vec![get.clone(), put.clone()]));
        assert_eq!(both, of(Methods::Only(vec![put, get.clone()])));
        assert_ne!(both, of(Methods::Only(vec![get])));
    }
}
