//! Whose keys a run on a server thinks with: those that came with it, and beside them what the workspace's policy leaves of
//! its member's own, the workspace's and the operator's.

use std::sync::Arc;

use orch_gateway::{ByokPolicy, Order, Plan, Witness};
use orch_manifests::{Catalog, Provider, Slug, Whose};
use orch_proxy::Credential;
use orch_vault::{PlannedUse, SecretName, Source};

use super::live::LiveRun;
use super::{Mode, Service};
use crate::byok::platform_ring;
use crate::failure::{Failure, Kind};
use crate::keeper::{ClientWitness, ProviderKeys, Ring, Rings, name_of};
use crate::keys::{Keys, Refused, Unsearched};
use crate::permissions::Capability;

/// What the policy says of one run.
pub(super) struct Lending {
    policy: ByokPolicy,
    order: Order,
}

impl Lending {
    /// Whether keys that came with the run may serve it.
    pub(super) fn takes_given(&self) -> bool {
        matches!(self.policy, ByokPolicy::PreferTeam | ByokPolicy::PreferOwn)
    }

    /// What the policy makes of keys that it does not take.
    pub(super) fn left_out(&self) -> String {
        format!("keys of the caller's environment are not used: this workspace's policy is {}", self.policy)
    }
}

impl Lending {
    /// Agents search with a key of their member's, of the workspace, or with one that came with the run. The operator lends
    /// none for that.
    fn check_searches(&self, keys: &Keys) -> Result<(), Failure> {
        if self.order.whose.contains(&Whose::Team) {
            return Ok(());
        }
        let barred = keys.searchers.iter().filter(|(_, key)| is_of_vault(&***key)).map(|(slug, _)| slug);
        let Some(slug) = barred.chain(keys.unsearched.keys()).next() else { return Ok(()) };
        let text = format!(
            "the agent searches the web with {slug}, and this workspace's policy is {}: no key is lent to search with",
            self.policy
        );
        Err(Failure::new(Kind::Denied, "byok_policy", text).detail("provider", slug.as_str()).hint(
            "run an agent that does not search, or have an admin of the workspace change the policy: orch byok policy prefer_team",
        ))
    }
}

fn is_of_vault(key: &dyn Credential) -> bool {
    key.source() == Source::Vault.as_str()
}

/// What comes first of a provider's keys.
enum First {
    /// The workspace's, as it was found.
    Team,
    /// These, the one that stands for all of them first.
    Lent(Vec<Arc<dyn Credential>>),
    /// One that is there and cannot be used, and why.
    Unusable(String),
}

impl Service {
    /// What the policy says of a run that `asks` for a key of its member's own, or wants none, or says nothing of that; `None`
    /// where there are no members, in a command of this machine's user.
    ///
    /// # Errors
    /// `byok_policy`: the policy forbids what is asked, or what came along.
    pub(super) async fn lending(
        &self,
        workspace: &str,
        asks: Option<bool>,
        brings_keys: bool,
    ) -> Result<Option<Lending>, Failure> {
        if self.mode == Mode::Embedded {
            return Ok(None);
        }
        let (policy, _) = self.policies.of(workspace, &self.config().byok).await?;
        let refused = |field: &str, what: &str| {
            let text = format!("{what}, and this workspace's policy is {policy}");
            Failure::new(Kind::Denied, "byok_policy", text)
                .detail("field", field)
                .hint("leave it out, or have an admin of the workspace change the policy: orch byok policy prefer_team")
        };
        let order =
            policy.order(asks, false).ok_or_else(|| refused("byok", "`byok` asks for a key of your own"))?;
        let lending = Lending { policy, order };
        if brings_keys && !lending.takes_given() {
            return Err(refused("keys", "`keys` are keys of your own"));
        }
        Ok(Some(lending))
    }

    /// Puts the keys that come first by the policy in the place of those that were found, for every provider that no key came
    /// along for. A key of the workspace that cannot be used stands in nobody's way who comes before it.
    ///
    /// # Errors
    /// When the vault cannot be read; when a key that comes first and that no run goes on without cannot be used, or there is
    /// none to search with; `byok_policy` when the agent searches and the platform's keys alone serve.
    pub(super) async fn lend(
        &self,
        lending: &Lending,
        live: &LiveRun,
        keys: &mut Keys,
    ) -> Result<(), Failure> {
        lending.check_searches(keys)?;
        let ring = self.rings(live).own;
        let of_member = self.keeper.keys_of(&ring).await?;
        if lending.order.whose.first() == Some(&Whose::Own) {
            self.lend_searches((&ring, &*of_member), live, keys)?;
        }
        if let Some((_, Unsearched { failure, .. })) = keys.unsearched.pop_first() {
            return Err(failure);
        }
        let own = Arc::clone(&of_member.plan);
        let platform = self.platform_plan(&live.workspace).await?;
        let wanted: Vec<Slug> = keys
            .providers
            .keys()
            .cloned()
            .chain(keys.missing.iter().filter_map(|missing| missing.provider.parse().ok()))
            .chain(keys.refused.keys().cloned())
            .collect();
        for slug in wanted {
            let found = keys.providers.get(&slug);
            if found.is_some_and(|key| key.source() != Source::Vault.as_str()) {
                continue;
            }
            let has_team = found.is_some();
            let refused = keys.refused.remove(&slug);
            let of = |plan: &Plan| {
                Some(match plan.key_for(&slug)? {
                    Ok(at_hand) => First::Lent(at_hand.keys.clone()),
                    Err(why) => First::Unusable(why.to_owned()),
                })
            };
            let first = lending.order.whose.iter().find_map(|whose| match whose {
                Whose::Own => of(&own),
                Whose::Team => (has_team || refused.is_some()).then_some(First::Team),
                Whose::Platform => platform.as_deref().and_then(of),
            });
            if let Some(Refused { failure, needed }) = refused {
                if needed && matches!(first, Some(First::Team)) {
                    return Err(failure);
                }
                keys.leave(&live.run, &failure);
            }
            match first {
                Some(First::Team) => {}
                Some(First::Lent(lent)) => replace(keys, &slug, lent, self.catalog()),
                // One that is there and cannot be used is no reason to bill somebody else.
                Some(First::Unusable(why)) => {
                    keys.unusable.push(why);
                    replace(keys, &slug, Vec::new(), self.catalog());
                }
                None => {
                    if has_team {
                        let policy = lending.policy;
                        keys.unusable.push(format!("the key of {slug}: this workspace's policy is {policy}"));
                    }
                    replace(keys, &slug, Vec::new(), self.catalog());
                }
            }
        }
        Ok(())
    }

    /// Puts a member's own keys in the place of those that the agent was to search with.
    ///
    /// # Errors
    /// One that is there and cannot be used: that is no reason to bill somebody else.
    fn lend_searches(
        &self,
        (ring, own): (&Ring, &ProviderKeys),
        live: &LiveRun,
        keys: &mut Keys,
    ) -> Result<(), Failure> {
        let all: Vec<Slug> = keys.searchers.keys().chain(keys.unsearched.keys()).cloned().collect();
        for slug in all {
            let given = keys.searchers.get(&slug).is_some_and(|key| !is_of_vault(&**key));
            let Some(key) = own.searchers.get(&slug).filter(|_| !given) else { continue };
            let key = key.clone().map_err(|why| Failure::new(Kind::NoKey, "key_unusable", why))?;
            let provider = self
                .catalog()
                .searcher(slug.as_str())
                .ok_or_else(|| Failure::defect(format!("the catalog has lost {slug}")))?;
            let secret: SecretName = name_of(key.id())
                .parse()
                .map_err(|e| Failure::defect(format!("a key came out of the vault by a wrong name: {e}")))?;
            let (run, host) = (live.run.to_string(), provider.endpoint.host.to_string());
            keys.lent_uses.push((Arc::clone(&ring.part), PlannedUse { run, secret, host, grant: None }));
            // Where it thinks with the provider as well, its other key is judged by itself.
            if keys.searchers.insert(slug.clone(), key).is_some() && !keys.providers.contains_key(&slug) {
                unplan(keys, provider);
            }
            if let Some(Unsearched { failure, has_key: true }) = keys.unsearched.remove(&slug)
                && !keys.refused.contains_key(&slug)
            {
                keys.leave(&live.run, &failure);
            }
        }
        Ok(())
    }

    /// Who puts on record the uses of what was lent to a run; none when nothing was.
    pub(super) fn witness_of(&self, live: &LiveRun, keys: &Keys) -> Option<Arc<dyn Witness>> {
        let lent = keys.of_providers().any(|key| key.id().contains('/'));
        lent.then(|| {
            Arc::new(ClientWitness::of_run(&self.keeper, self.rings(live), &live.run)) as Arc<dyn Witness>
        })
    }

    fn rings(&self, live: &LiveRun) -> Rings {
        Rings {
            team: Ring::team(&live.workspace.as_str().into()),
            own: Ring::own(&live.workspace, &live.member),
            platform: platform_ring(&self.config().platform, &live.workspace),
        }
    }
}

/// Puts these keys in the place of those of a provider. What the record was to hold of the ones before is not going to be.
fn replace(keys: &mut Keys, slug: &Slug, lent: Vec<Arc<dyn Credential>>, catalog: &Catalog) {
    if keys.providers.remove(slug).is_some()
        && let Some(provider) = catalog.provider(slug.as_str())
    {
        unplan(keys, provider);
    }
    keys.further.remove(slug);
    keys.accounts.remove(slug);
    let mut lent = lent.into_iter();
    let Some(first) = lent.next() else { return };
    keys.missing.retain(|missing| missing.provider != slug.as_str());
    keys.providers.insert(slug.clone(), first);
    keys.further.insert(slug.clone(), lent.collect());
}

/// Forgets what was planned with the workspace's keys of a provider, and what had to be granted for that.
fn unplan(keys: &mut Keys, provider: &Provider) {
    keys.uses.retain(|planned| !provider.takes_key(planned.secret.as_str()));
    keys.ungranted.retain(
        |wanted| !matches!(wanted, Capability::Secret { name, .. } if provider.takes_key(name.as_str())),
    );
}
