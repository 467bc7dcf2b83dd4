//! The examples, carried in the binary so that the first run needs no download.

/// An agent that comes with `orch`.
pub(super) struct Builtin {
    /// `org/name`.
    pub(super) name: &'static str,
    /// Its `orch.yaml`.
    pub(super) manifest: &'static str,
    /// Its component.
    pub(super) module: &'static [u8],
}

const BUILTINS: &[Builtin] = &[
    Builtin {
        name: "orch/repo-digest",
        manifest: include_str!("../../../examples/repo-digest/orch.yaml"),
        module: include_bytes!("../../../examples/repo-digest/repo-digest.wasm"),
    },
    Builtin {
        name: "orch/summarizer",
        manifest: include_str!("../../../examples/summarizer/orch.yaml"),
        module: include_bytes!("../../../examples/summarizer/summarizer.wasm"),
    },
    Builtin {
        name: "orch/tool-loop",
        manifest: include_str!("../../../examples/tool-loop/orch.yaml"),
        module: include_bytes!("../../../examples/tool-loop/tool-loop.wasm"),
    },
    Builtin {
        name: "orch/translator",
        manifest: include_str!("../../../examples/translator/orch.yaml"),
        module: include_bytes!("../../../examples/translator/translator.wasm"),
    },
];

pub(super) fn find(name: &str) -> Option<&'static Builtin> {
    BUILTINS.iter().find(|builtin| builtin.name == name)
}

/// All of them.
pub(super) fn all() -> &'static [Builtin] {
    BUILTINS
}

pub(super) fn names() -> Vec<&'static str> {
    BUILTINS.iter().map(|builtin| builtin.name).collect()
}
