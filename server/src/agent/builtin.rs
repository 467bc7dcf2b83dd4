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
        name: "orch/summarizer",
        manifest: include_str!("../../../examples/summarizer/orch.yaml"),
        module: include_bytes!("../../../examples/summarizer/summarizer.wasm"),
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
