//! `docs/providers.md` says what the catalog says: its tables are made from it.

use std::fmt::Write as _;

use orch_manifests::{Auth, Catalog, Check, Lack, Provider, Quirks, Task};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/providers.md");

#[test]
fn the_document_says_what_the_catalog_says() {
    let catalog = Catalog::builtin();
    let text = std::fs::read_to_string(DOCUMENT).expect("docs/providers.md");
    let mut updated = text.clone();
    for (name, table) in
        [("models", models(&catalog)), ("quirks", quirks(&catalog)), ("search", search(&catalog))]
    {
        updated = replaced(&updated, name, &table);
    }
    if updated != text {
        if std::env::var_os("ORCH_UPDATE_DOCS").is_some() {
            std::fs::write(DOCUMENT, updated).expect("the document can be written");
            return;
        }
        panic!(
            "docs/providers.md is not what the catalog says: ORCH_UPDATE_DOCS=1 cargo test -p orch-manifests"
        );
    }
}

/// The document with this table between its marks.
fn replaced(text: &str, name: &str, table: &str) -> String {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let start = text.find(&begin).expect("the table's first mark") + begin.len();
    let stop = text.find(&end).expect("the table's last mark");
    format!("{}{table}{}", &text[..start], &text[stop..])
}

fn code<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| format!("`{item}`")).collect();
    items.join(", ")
}

fn auth(provider: &Provider) -> String {
    match &provider.auth {
        Auth::None => "none".to_owned(),
        Auth::Bearer => "`Authorization: Bearer`".to_owned(),
        Auth::Header(name) => format!("`{name}`"),
        Auth::Azure => "`api-key`, of the JSON credential".to_owned(),
        Auth::AzureFoundry => "`api-key`, of the JSON credential".to_owned(),
        Auth::TokenFile(tool) => format!("`Authorization: Bearer`, of {}'s credential file", tool.name()),
        Auth::Aws => "`Authorization: Bearer`, or signed with the JSON credential".to_owned(),
    }
}

/// How its key is proven.
fn check(provider: &Provider) -> String {
    match &provider.check {
        Check::Impossible(why) => format!("none: {why}"),
        Check::Asks(check) => {
            let (endpoint, path) = provider.check_target(check);
            let elsewhere = match endpoint.host == provider.endpoint.host {
                true => String::new(),
                false => endpoint.host.to_string(),
            };
            let control = if check.control { ", and again with a made-up key" } else { "" };
            format!("`{} {elsewhere}{path}`{control}", check.method)
        }
    }
}

fn base(provider: &Provider) -> String {
    if provider.needs_endpoint() {
        let hosts: Vec<String> = provider.hosts.iter().map(ToString::to_string).collect();
        let hosts = code(hosts.iter().map(String::as_str));
        return format!("the key's `endpoint`, at {hosts}, then `{}`", provider.endpoint.base_path);
    }
    match &provider.region {
        Some(region) => format!("`{}`, where `{region}` is the region of the key", provider.endpoint),
        None => format!("`{}`", provider.endpoint),
    }
}

fn models(catalog: &Catalog) -> String {
    let mut table =
        "| provider | base URL | key goes into | key names | key check | dialects | models listed | bare names |\n\
                     |---|---|---|---|---|---|---|---|\n"
            .to_owned();
    for provider in catalog.providers() {
        let others = provider.aliases.iter().chain(provider.variants.iter().map(|variant| &variant.slug));
        let others: Vec<&str> = others.map(|slug| slug.as_str()).collect();
        let also = if others.is_empty() { String::new() } else { format!(" ({})", code(others)) };
        let mut dialects: Vec<String> = Vec::new();
        for path in &provider.inference {
            let dialect = match path.task {
                Task::Chat => path.dialect.to_string(),
                Task::Embeddings => "embeddings".to_owned(),
            };
            if !dialects.contains(&dialect) {
                dialects.push(dialect);
            }
        }
        let bare = if provider.hosts_others || provider.models.is_empty() { "no" } else { "yes" };
        writeln!(
            table,
            "| `{}`{also} | {} | {} | {} | {} | {} | {} | {bare} |",
            provider.slug,
            base(provider),
            auth(provider),
            code(provider.env.iter().map(String::as_str)),
            check(provider),
            dialects.join(", "),
            provider.models.len(),
        )
        .expect("a string takes it");
    }
    table
}

fn quirks(catalog: &Catalog) -> String {
    let mut table = "| provider | what is done about it |\n|---|---|\n".to_owned();
    for provider in catalog.providers() {
        let words = in_words(&provider.quirks);
        if !words.is_empty() {
            writeln!(table, "| `{}` | {} |", provider.slug, words.join("; ")).expect("a string takes it");
        }
    }
    table
}

fn in_words(quirks: &Quirks) -> Vec<String> {
    let Quirks {
        max_completion_tokens,
        max_tokens_required,
        stream_options,
        no_done,
        code_assist,
        strict_messages,
        system_as_input,
        lacks,
        drops,
        ignores,
        renames,
        reasoning,
        thinks_in,
        files,
        model_prefix,
    } = quirks;
    let mut words = Vec::new();
    let mut say = |so: bool, text: &str| words.extend(so.then(|| text.to_owned()));
    say(*max_completion_tokens, "the bound on output is sent as `max_completion_tokens`");
    say(*max_tokens_required, "a bound on output is always sent");
    say(*stream_options, "usage of streams is asked for");
    say(*no_done, "a stream may end without `[DONE]`");
    say(*code_assist, "requests and answers are inside of Code Assist's envelope");
    say(*strict_messages, "unknown keys and parts of messages are left out, system messages joined in front");
    say(*system_as_input, "instructions of responses are sent as the first message");
    for lack in lacks {
        words.push(format!(
            "not asked where a request needs {}",
            match lack {
                Lack::Tools => "tools",
                Lack::JsonSchema => "a JSON Schema",
                Lack::ForcedToolBesideJson => "a forced tool beside JSON output",
                Lack::ForcedToolWhileThinking => "a forced tool of a model that thinks",
            }
        ));
    }
    for (dialect, fields) in drops {
        words.push(format!("{} left out ({dialect})", code(fields.iter().map(String::as_str))));
    }
    if !ignores.is_empty() {
        words.push(format!("{} refused, which it would ignore", code(ignores.iter().map(String::as_str))));
    }
    for (from, to) in renames {
        words.push(format!("`{from}` is sent as `{to}`"));
    }
    if let Some(field) = reasoning {
        words.push(format!("thoughts go back in `{}`", field.as_str()));
    }
    if let Some(dialect) = thinks_in {
        words.push(format!("models that think are asked in {dialect} by clients of other dialects"));
    }
    if !files.is_empty() {
        let dialects: Vec<String> = files.iter().map(ToString::to_string).collect();
        words.push(format!("takes PDFs ({})", dialects.join(", ")));
    }
    if let Some(prefix) = model_prefix {
        words.push(format!("a model without a slash is `{prefix}NAME`"));
    }
    words
}

fn search(catalog: &Catalog) -> String {
    let mut table =
        "| provider | calls | key goes into | key names | key check |\n|---|---|---|---|---|\n".to_owned();
    for provider in catalog.searchers() {
        let at = format!("{}://{}", provider.endpoint.scheme, provider.endpoint.authority());
        let calls: Vec<String> =
            provider.calls.iter().map(|call| format!("{} {at}{}", call.method, call.path)).collect();
        writeln!(
            table,
            "| `{}` | {} | {} | {} | {} |",
            provider.slug,
            code(calls.iter().map(String::as_str)),
            auth(provider),
            code(provider.env.iter().map(String::as_str)),
            check(provider),
        )
        .expect("a string takes it");
    }
    table
}
