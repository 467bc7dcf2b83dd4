//! `orch byok use` and `orch byok model`: who is thought with first, and with what.

use orch_manifests::{Auth, ModelName, Provider, nearest_at, resolve_at};
use orch_server::{Failure, Kind};
use serde_json::json;

use super::active::{Active, By, Place, choose, chosen, stored};
use super::keys::KeysAt;
use crate::args::{ModelOfArgs, UseArgs};
use crate::commands::secrets::Keeping;
use crate::printer::Printer;
use crate::wire::{Installation, broken_pipe};

/// What stands for no provider.
const NONE: &str = "none";
/// What stands for no model.
const DEFAULT: &str = "default";

pub(super) fn provider(
    here: &Installation,
    local: bool,
    args: &UseArgs,
    printer: Printer,
) -> Result<(), Failure> {
    let place = Place::of(here, local)?;
    if args.provider == NONE {
        choose(here, &place, None, printer)?;
        return said(
            printer,
            None,
            None,
            "no provider is active: agents think with what they name themselves",
        );
    }
    let provider = super::provider(&here.catalog, &args.provider)?;
    if provider.auth != Auth::None {
        let keys = KeysAt::look(here, Keeping::find(here, local)?)?;
        if keys.of(provider)?.is_none() {
            return Err(no_key(provider, &keys));
        }
    }
    let before = stored(here, &place)?.filter(|(before, _)| provider.goes_by(before));
    let model = before.and_then(|(_, model)| model);
    let named = super::named(provider, &args.provider);
    choose(here, &place, Some((named.as_str(), model.clone())), printer)?;
    let text = format!("{named} is active: agents that support it think with it first");
    said(printer, Some(named.as_str()), model.as_deref(), &text)?;
    overruled(here, &place, provider, printer)
}

/// No key, and how to get one.
fn no_key(provider: &Provider, keys: &KeysAt<'_>) -> Failure {
    let slug = &provider.slug;
    let name = provider.key_name().unwrap_or_default();
    let (place, failure) = match keys {
        KeysAt::Here(..) => ("in this environment or in the vault", true),
        KeysAt::There(_) => ("of yours, of the workspace or of the operator at the server", false),
    };
    let text = format!("there is no key for {slug} {place}");
    let refused = Failure::new(Kind::NoKey, "no_key", text).hint(format!("orch byok set {slug}"));
    if failure { refused.hint(format!("export {name}=…")) } else { refused }
}

/// The environment may have the last word.
fn overruled(
    here: &Installation,
    place: &Place,
    provider: &Provider,
    printer: Printer,
) -> Result<(), Failure> {
    if let Some(Active { provider: active, by: By::Environment, .. }) = chosen(here, place, false)?.active
        && active.slug != provider.slug
    {
        printer.warn(&format!(
            "in this environment ORCH_BYOK_PROVIDER goes before it, and says {}",
            active.slug
        ));
    }
    Ok(())
}

pub(super) fn model(
    here: &Installation,
    local: bool,
    args: &ModelOfArgs,
    printer: Printer,
) -> Result<(), Failure> {
    let place = Place::of(here, local)?;
    let active = chosen(here, &place, false)?.said(printer).ok_or_else(|| {
        Failure::usage("no_active_provider", "no provider is active, whose model it could be")
            .hint("orch byok use PROVIDER")
            .hint("orch byok set PROVIDER")
    })?;
    let provider = &active.provider;
    if active.by == By::Environment {
        return Err(Failure::usage(
            "bad_usage",
            format!(
                "this environment says that {} is active, and ORCH_BYOK_MODEL with which model",
                provider.slug
            ),
        )
        .hint("export ORCH_BYOK_MODEL=…"));
    }
    if args.model == DEFAULT {
        choose(here, &place, Some((active.named.as_str(), None)), printer)?;
        let text = format!("agents think with the models of {} that they name themselves", provider.slug);
        return said(printer, Some(active.named.as_str()), None, &text);
    }
    let model = found(here, provider, args)?;
    // What stands before the model may be the name of a variant.
    let variant = args.model.split_once('/').filter(|(before, _)| provider.named_dialect(before).is_some());
    let named = variant.map_or(active.named.as_str(), |(before, _)| before);
    choose(here, &place, Some((named, Some(model.clone()))), printer)?;
    let text = format!("{named}/{model} comes first with agents that support {}", provider.slug);
    said(printer, Some(named), Some(&model), &text)
}

/// The model as the provider knows it.
///
/// # Errors
/// The provider does not have it, or nobody says that it does; what may have been meant is named.
fn found(here: &Installation, provider: &Provider, args: &ModelOfArgs) -> Result<String, Failure> {
    let name: ModelName =
        args.model.parse().map_err(|e| Failure::usage("model_unknown", format!("the model: {e}")))?;
    let unknown = |text: String, candidates: Vec<String>| {
        let bare = candidates.iter().filter_map(|name| name.strip_prefix(&format!("{}/", provider.slug)));
        let hints: Vec<String> = bare.take(3).map(|name| format!("orch byok model {name}")).collect();
        let failure = Failure::usage("model_unknown", text).detail("candidates", candidates);
        hints.into_iter().fold(failure, Failure::hint)
    };
    let at = resolve_at(&here.catalog, provider, provider.slug.as_str(), &name)
        .map_err(|elsewhere| unknown(elsewhere.to_string(), elsewhere.candidates))?;
    // A name that is only shaped like one of the provider's may be a slip.
    let model = at.route.model.as_str();
    let known = provider.model(model).is_some() || provider.pattern_of(model).is_some();
    if !(args.unlisted || at.listed && known) {
        let candidates = nearest_at(provider, &at.route.model);
        let listed = if candidates.is_empty() {
            String::new()
        } else {
            format!(" (it lists {}, …)", candidates.join(", "))
        };
        let text = format!("the catalog knows no model {} of {}{listed}", at.route.model, provider.slug);
        return Err(unknown(text, candidates)
            .hint(format!("orch byok model {} --unlisted takes it all the same", args.model)));
    }
    if provider.model(&at.route.model).is_some_and(|model| model.embedding.is_some()) {
        return Err(Failure::usage(
            "model_unfit",
            format!("{} makes embeddings, and answers nothing", at.route.model),
        ));
    }
    Ok(at.route.model)
}

fn said(printer: Printer, provider: Option<&str>, model: Option<&str>, text: &str) -> Result<(), Failure> {
    if printer.json() {
        return printer.result_json(&json!({ "provider": provider, "model": model })).or_else(broken_pipe);
    }
    printer.note(text);
    Ok(())
}
