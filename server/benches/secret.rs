//! What a use of a secret costs that was granted to a run: its owner's word looked at, the placeholder swapped. Beside it,
//! in turns, the swap alone, with a value that has no owner to ask.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "it reports to a terminal and may fail loudly")]

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use http::{Method, Request, header::AUTHORIZATION};
use orch_manifests::Scheme;
use orch_proxy::{Asked, Credential, Place, Placeholder, Use};
use orch_server::measured;
use orch_vault::{Custody, ExpectedVersion, GrantTerms, OpenMode, Secret, SecretMeta, Vault, VaultLocation};

const ROUNDS: usize = 51;
const USES: u32 = 2_000;
const TARGET: Duration = Duration::from_micros(20);
const VALUE: &[u8] = b"ghp_0123456789abcdef0123456789abcdef";

fn main() -> ExitCode {
    let folder = tempfile::tempdir().unwrap();
    let location = VaultLocation {
        store: folder.path().join("vault"),
        key_file: folder.path().join("vault.key"),
        workspace: "default".to_owned(),
        custody: Custody::default(),
    };
    let name = "GITHUB_TOKEN".parse().unwrap();
    let mut vault = Vault::open(&location, OpenMode::Create).unwrap();
    let host = |host: &str| GrantTerms {
        host: Some(host.to_owned()),
        methods: vec!["GET".to_owned()],
        paths: vec!["/repos/**".to_owned()],
        ..GrantTerms::default()
    };
    // The grant that covers the request is the last of eight.
    let mut grants: Vec<GrantTerms> = (0..7).map(|number| host(&format!("h{number}.example.com"))).collect();
    grants.push(host("api.github.com"));
    let meta = SecretMeta { grants: Some(grants), ..SecretMeta::default() };
    vault.set(&name, Secret::new(VALUE.to_vec()), meta, ExpectedVersion::Any).unwrap();
    let lent = measured::lent(&vault, &name).unwrap().unwrap();
    let given = measured::given(Secret::new(VALUE.to_vec()));

    let (mut with_owner, mut alone) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        with_owner.push(round(&*lent));
        alone.push(round(&*given));
    }
    let (with_owner, alone) = (median(with_owner), median(alone));
    println!("use of a secret that was granted    {with_owner:>10.1?} (target {TARGET:.1?})");
    println!("the swap alone                      {alone:>10.1?}");
    if with_owner <= TARGET { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One use, on average over a round.
fn round(credential: &dyn Credential) -> Duration {
    let placeholder = Placeholder::random();
    let (host, path) = ("api.github.com".parse().unwrap(), "/repos/a/b".parse().unwrap());
    let place = Place::Header(AUTHORIZATION);
    let asked = Asked { scheme: Scheme::Https, host: &host, port: 443, method: &Method::GET, path: &path };
    let line = format!("Bearer {placeholder}");
    let begun = Instant::now();
    for _ in 0..USES {
        let request = Request::get("/repos/a/b").header(AUTHORIZATION, &line).body(()).unwrap();
        let (mut parts, ()) = request.into_parts();
        let how = Use::Swap { asked, place: &place, placeholder: &placeholder };
        black_box(credential.authorize(&mut parts, None, how).unwrap());
    }
    begun.elapsed() / USES
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
