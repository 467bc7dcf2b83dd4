//! The words that people read, as they stand: help, and the errors that a newcomer meets first.

use insta::assert_snapshot;
use orch_tests::home::Home;
use serde_json::json;

use crate::stage::{INPUT, OPENAI_KEY, Stage, guest, orch};

#[track_caller]
fn help(args: &[&str]) -> String {
    orch(&Home::new()).args(args).run().expect(0).stdout().to_owned()
}

/// What a failing command says.
#[track_caller]
fn said(args: &[&str], code: i32) -> String {
    orch(&Home::new()).args(args).run().expect(code).silent().stderr().to_owned()
}

#[test]
fn help_of_the_program() {
    assert_snapshot!(help(&["--help"]), @r#"
    Run AI agents that nobody has to trust, with keys that the agents never see

    Usage: orch [OPTIONS] <COMMAND>

    Commands:
      run          Run an agent in the sandbox and print its answer
      secrets      Keep keys in the encrypted vault
      byok         Bring your own key: the provider that is thought with first
      vault        Look after the vault: its state, its records, who can open it
      serve        Run agents and answer model calls for others, until it is told to stop
      proxy        Let other programs reach what is allowed, and nothing else, until it is told to stop
      publish      Put a version of an agent where others can run it by name
      pull         Get a published agent as a folder
      list         List the agents that can be run by name
      info         Say what an agent is, what it wants and what it was granted
      grants       See and take back what was granted or refused to agents for good
      policy       Say what an agent's policy allows, and learn one from a run
      routes       Give several models one name, with fallbacks and shares
      providers    Show which providers can be asked, and how their keys fare
      budgets      Show what may be spent on models, and free what crashed processes hold of it
      logs         Show the requests that models were asked, or what the agent of a run has logged
      usage        Add up runs, calls, tokens and costs
      login        Keep the token of a server on this machine
      logout       Forget the token of a server
      whoami       Say who the server takes you for
      tokens       Make and revoke tokens of a server
      doctor       Look at this installation and say what works and what does not
      completions  Print a script that completes commands in a shell
      help         Print this message or the help of the given subcommand(s)

    Options:
          --json     Print the result as one JSON object, and errors as JSON
      -h, --help     Print help
      -V, --version  Print version

    Try it, with no key and no network:
      orch run --local orch/summarizer --simulate --input '{"text": "…"}'
    "#);
}

#[test]
fn help_of_run() {
    assert_snapshot!(help(&["run", "--help"]), @r"
    Run an agent in the sandbox and print its answer

    Usage: orch run [OPTIONS] <AGENT>

    Arguments:
      <AGENT>  A folder with orch.yaml, a manifest file, a .wasm file, or org/name (orch/summarizer and
               orch/translator come with orch); what exists as a path is a path

    Options:
          --local                  Run on this machine, with your own keys, in this process alone
      -i, --input <JSON|@FILE|->   The input: JSON, @FILE, or - for standard input
          --stream                 Pass the agent's output through as it is written, before it is
                                   checked
          --detach                 Print the run's id and leave; the run goes on, on the server
          --simulate[=<SCENARIO>]  Use the built-in simulated providers: no key, no network. SCENARIO is
                                   one of ok, rate-limit, server-error, out-of-money, bad-key, slow,
                                   cut, or a scenario file
          --json                   Print the result as one JSON object, and errors as JSON
      -h, --help                   Print help
      -V, --version                Print version

    Keys:
          --key-file <FILE>       Read the primary provider's key from a file
          --key-stdin             Read the primary provider's key from standard input
          --key <[PROVIDER=]KEY>  A key, for the primary provider or the named one. Others can see it in
                                  the process list and the shell's history: prefer the forms above, or
                                  `orch secrets set`
          --send-env-keys         Send the keys of this environment along to a server on another
                                  machine, for this run only

    Model:
          --provider <NAME>  Use only this provider's candidates of the agent's plan
          --model <MODEL>    Use this model (or provider/model) instead of the agent's plan

    Permissions:
          --allow <HOST[:PORT]>          Let the agent reach a host that its manifest asks for
          --trial-policy <FILE>          Try a narrower policy beside the one in force: write down what
                                         it would refuse, and refuse nothing more. FILE is a manifest,
                                         or has an `egress` list alone
          --secret <NAME@HOST>           Let the agent use a secret of the vault toward a host
          --grant <CAPABILITY>           Grant what the manifest asks of model providers beside answers:
                                         llm.server_tools:KIND[,KIND],
                                         llm.account:PROVIDER:METHOD:PATH[,METHOD:PATH]
          --mount <HOST::GUEST[:ro|rw]>  Give the agent a folder
      -e, --env <NAME=VALUE>             Set a variable inside the sandbox

    Limits:
          --time <DURATION>  Wall time, such as 90s or 5m
          --memory <SIZE>    Memory, such as 256MiB
          --max-cost <USD>   Money for model calls, in US dollars, such as 0.50
    ");
}

#[test]
fn help_of_the_proxy() {
    assert_snapshot!(help(&["proxy", "--help"]), @r"
    Let other programs reach what is allowed, and nothing else, until it is told to stop

    Usage: orch proxy [OPTIONS]

    Options:
          --listen <ADDRESS:PORT>     Listen on this address [default: 127.0.0.1:3128]
          --insecure-listen <REASON>  Listen on an address that others can reach, and say why nobody on
                                      the way can read along
          --manifest <FILE>           Allow what `egress` in this manifest asks for, or in a file with
                                      `egress` and `limits` alone; read again on SIGHUP, with
                                      config.yaml
          --allow <HOST[:PORT]>       Allow everything at this host over TLS
          --allow-opaque <HOST>       Let tunnels to this host carry anything: TLS that names no server
                                      or another, or no TLS
          --secret <NAME@HOST>        Let clients use a secret of the vault at this host without seeing
                                      it; what is in the vault at the start
          --client <NAME>             Have a client of this name; `default` when nothing is said
          --tokens <FILE>             Take the clients' tokens from this file, CLIENT:TOKEN in each
                                      line, instead of making new ones
          --env-file <FILE>           Write what a client needs in its environment into this file; with
                                      several clients into FILE.CLIENT
          --max-requests <N>          How many requests and tunnels each client may have
          --max-connections <N>       How many connections there may be at once, of all clients together
                                      [default: 4096]
          --log-decisions             Write decisions as lines of JSON
          --drain <DURATION>          How long requests and tunnels may go on once the proxy is told to
                                      stop [default: 10s]
          --json                      Print the result as one JSON object, and errors as JSON
      -h, --help                      Print help
      -V, --version                   Print version
    ");
}

#[test]
fn help_of_secrets() {
    assert_snapshot!(help(&["secrets", "--help"]), @r"
    Keep keys in the encrypted vault

    Usage: orch secrets [OPTIONS] <COMMAND>

    Commands:
      set     Store a value, or a new version of it; asks for it when none is given
      rotate  Put a new value in the place of one; what was said about it stays
      list    List what is stored; never a value
      rm      Remove a secret, after saying who uses it
      which   Say where the value of a name would come from: flag, environment or vault
      grants  Look at where secrets may go and for whom, and change that
      import  Store everything that a .env file holds, or nothing
      export  Write a backup, sealed under a passphrase; there is no export that shows values
      help    Print this message or the help of the given subcommand(s)

    Options:
          --local    Use the vault of this machine, even where a server is configured
          --json     Print the result as one JSON object, and errors as JSON
      -h, --help     Print help
      -V, --version  Print version
    ");
}

#[test]
fn help_of_secrets_set() {
    assert_snapshot!(help(&["secrets", "set", "--help"]), @r"
    Store a value, or a new version of it; asks for it when none is given

    Usage: orch secrets set [OPTIONS] <NAME> [VALUE | -]

    Arguments:
      <NAME>       Its name, such as OPENAI_API_KEY
      [VALUE | -]  The value, or - for standard input. Others can see a value given here in the process
                   list and the shell's history

    Options:
          --from-file <FILE>          Read the value from a file
          --from-env                  Take the value from the environment variable of the same name
          --allow-short               Accept a value of under 16 bytes: it cannot be cleaned out of
                                      responses
          --expires <DURATION>        Refuse to use the value after this time, such as 30d
          --multiline                 Accept line breaks, as PEM files and JSON credentials have them:
                                      it then never goes into a header
          --no-check                  Do not ask the provider whether it accepts the key
          --credential-file [<PATH>]  Let the credential file of another tool (Qwen Code, Gemini CLI,
                                      Claude Code) be read at each use; at its usual place when no path
                                      is given. It is never written to
          --project <ID>              The Google Cloud project that calls with a credential file of
                                      Gemini CLI are for
          --despite-terms             Take a credential file although its provider's terms forbid its
                                      use in other products
          --local                     Use the vault of this machine, even where a server is configured
          --json                      Print the result as one JSON object, and errors as JSON
      -h, --help                      Print help
      -V, --version                   Print version

    Where it may go, and for whom: one grant for each --host:
          --host <HOST>                  A host that the value may be sent to (names of the provider
                                         catalog are bound to their provider already)
          --method <METHOD>              A method that it may be sent with, such as GET
          --path <GLOB>                  A pattern of paths that it may be sent to, such as /repos/**
          --in <header:NAME|query:NAME>  The place in the request that it belongs in;
                                         header:authorization when nothing is said
          --account <METHOD:GLOB>        A request to the account of a provider's key that it may go
                                         with beside model calls, such as GET:/v1/files/**
          --agent <ORG/NAME>             An agent that may use it without being asked about; others then
                                         need --secret at each run
          --runs <N>                     How many runs may use it
          --max-cost <USD>               How much model calls with it may cost together, in US dollars
                                         (for keys of providers)

    Without a flag about grants a secret keeps those that it had; with one, these replace them.

    A provider's key is checked with its provider before it is stored, which costs nothing and takes
    five seconds at most: one that the provider rejects is not stored (exit code 3). One that could not
    be checked, offline for example, is stored, and that is said. --no-check, or ORCH_KEY_CHECK=off,
    asks nobody. A server elsewhere asks by itself.
    ");
}

#[test]
fn help_of_secrets_rotate() {
    assert_snapshot!(help(&["secrets", "rotate", "--help"]), @r"
    Put a new value in the place of one; what was said about it stays

    Usage: orch secrets rotate [OPTIONS] <NAME> [VALUE | -]

    Arguments:
      <NAME>       Its name
      [VALUE | -]  The value, or - for standard input. Others can see a value given here in the process
                   list and the shell's history

    Options:
          --from-file <FILE>    Read the value from a file
          --from-env            Take the value from the environment variable of the same name
          --allow-short         Accept a value of under 16 bytes: it cannot be cleaned out of responses
          --expires <DURATION>  Refuse to use the value after this time; it lives as long as the one
                                before when nothing is said
          --no-check            Do not ask the provider whether it accepts the key
          --local               Use the vault of this machine, even where a server is configured
          --json                Print the result as one JSON object, and errors as JSON
      -h, --help                Print help
      -V, --version             Print version
    ");
}

#[test]
fn help_of_secrets_grants_add() {
    assert_snapshot!(help(&["secrets", "grants", "add", "--help"]), @r"
    Let a secret go somewhere more, or somebody more use it

    Usage: orch secrets grants add [OPTIONS] <NAME>

    Arguments:
      <NAME>  The secret

    Options:
          --expires <DURATION>  Let it be used until this time, such as 30d
          --local               Use the vault of this machine, even where a server is configured
          --json                Print the result as one JSON object, and errors as JSON
      -h, --help                Print help
      -V, --version             Print version

    Where it may go, and for whom: one grant for each --host:
          --host <HOST>                  A host that the value may be sent to (names of the provider
                                         catalog are bound to their provider already)
          --method <METHOD>              A method that it may be sent with, such as GET
          --path <GLOB>                  A pattern of paths that it may be sent to, such as /repos/**
          --in <header:NAME|query:NAME>  The place in the request that it belongs in;
                                         header:authorization when nothing is said
          --account <METHOD:GLOB>        A request to the account of a provider's key that it may go
                                         with beside model calls, such as GET:/v1/files/**
          --agent <ORG/NAME>             An agent that may use it without being asked about; others then
                                         need --secret at each run
          --runs <N>                     How many runs may use it
          --max-cost <USD>               How much model calls with it may cost together, in US dollars
                                         (for keys of providers)
    ");
}

#[test]
fn help_of_secrets_export() {
    assert_snapshot!(help(&["secrets", "export", "--help"]), @r"
    Write a backup, sealed under a passphrase; there is no export that shows values

    Usage: orch secrets export [OPTIONS] <FILE>

    Arguments:
      <FILE>  The file, which must not exist

    Options:
          --passphrase-file <FILE>  Read the passphrase from a file that nobody else can read (0600), or
                                    from standard input with -
          --passphrase-stdin        Read the passphrase from standard input
          --local                   Use the vault of this machine, even where a server is configured
          --json                    Print the result as one JSON object, and errors as JSON
      -h, --help                    Print help
      -V, --version                 Print version
    ");
}

#[test]
fn help_of_vault_slots() {
    assert_snapshot!(help(&["vault", "slots", "add", "--help"]), @r"
    Add a slot; there is one of each kind

    Usage: orch vault slots add [OPTIONS] <COMMAND>

    Commands:
      file                A key in a 0600 file outside of the vault
      passphrase          A passphrase, asked for without echo
      keychain            A key in the keychain of the operating system
      systemd-credential  A key that systemd hands to a service, as the credential orch-vault-key
      help                Print this message or the help of the given subcommand(s)

    Options:
          --local    The vault of this machine, even where a server is configured
          --json     Print the result as one JSON object, and errors as JSON
      -h, --help     Print help
      -V, --version  Print version
    ");
}

#[test]
fn help_of_doctor() {
    assert_snapshot!(help(&["doctor", "--help"]), @r"
    Look at this installation and say what works and what does not

    Usage: orch doctor [OPTIONS]

    Options:
          --offline  Ask no provider about keys
          --json     Print the result as one JSON object, and errors as JSON
      -h, --help     Print help
      -V, --version  Print version
    ");
}

#[test]
fn help_of_publish() {
    assert_snapshot!(help(&["publish", "--help"]), @r"
    Put a version of an agent where others can run it by name

    Usage: orch publish [OPTIONS] [PATH]

    Arguments:
      [PATH]  A folder with orch.yaml, or a manifest file [default: .]

    Options:
          --json     Print the result as one JSON object, and errors as JSON
      -h, --help     Print help
      -V, --version  Print version
    ");
}

#[test]
fn help_of_pull() {
    assert_snapshot!(help(&["pull", "--help"]), @r"
    Get a published agent as a folder

    Usage: orch pull [OPTIONS] <AGENT>

    Arguments:
      <AGENT>  org/name, or org/name@version

    Options:
          --to <DIR>  The folder to write into; the agent's name when nothing is said
          --force     Write over files that are there already
          --json      Print the result as one JSON object, and errors as JSON
      -h, --help      Print help
      -V, --version   Print version
    ");
}

#[test]
fn help_of_policy() {
    assert_snapshot!(help(&["policy", "--help"]), @r"
    Say what an agent's policy allows, and learn one from a run

    Usage: orch policy [OPTIONS] <COMMAND>

    Commands:
      explain  Say which rule decides about a URL, or what is missing
      check    Judge a list of URLs by a manifest's egress, one answer a line
      test     Check a file of expectations about a policy
      learn    Write the egress section that would have allowed what was asked for
      help     Print this message or the help of the given subcommand(s)

    Options:
          --json     Print the result as one JSON object, and errors as JSON
      -h, --help     Print help
      -V, --version  Print version
    ");
}

#[test]
fn help_of_grants() {
    assert_snapshot!(help(&["grants", "--help"]), @r"
    See and take back what was granted or refused to agents for good

    Usage: orch grants [OPTIONS] <COMMAND>

    Commands:
      list  List what agents were granted or refused for good, here and at the server that commands go
            to
      rm    Forget the answers about an agent; it asks again, unless it is granted in another way
      help  Print this message or the help of the given subcommand(s)

    Options:
          --json     Print the result as one JSON object, and errors as JSON
      -h, --help     Print help
      -V, --version  Print version
    ");
}

#[test]
fn help_of_grants_list() {
    assert_snapshot!(help(&["grants", "list", "--help"]), @r"
    List what agents were granted or refused for good, here and at the server that commands go to

    Usage: orch grants list [OPTIONS]

    Options:
          --local    Only what is kept in this home; no server is asked
          --json     Print the result as one JSON object, and errors as JSON
      -h, --help     Print help
      -V, --version  Print version
    ");
}

#[test]
fn help_of_grants_rm() {
    assert_snapshot!(help(&["grants", "rm", "--help"]), @r"
    Forget the answers about an agent; it asks again, unless it is granted in another way

    Usage: orch grants rm [OPTIONS] <AGENT|DIGEST>

    Arguments:
      <AGENT|DIGEST>  The agent, in all of its versions; or the digest of one as `orch grants list`
                      shows it

    Options:
          --local    Only what is kept in this home; no server is asked
          --json     Print the result as one JSON object, and errors as JSON
      -h, --help     Print help
      -V, --version  Print version
    ");
}

#[test]
fn help_of_routes() {
    assert_snapshot!(help(&["routes", "--help"]), @r"
    Give several models one name, with fallbacks and shares

    Usage: orch routes [OPTIONS] <COMMAND>

    Commands:
      list  List the routes: the server's and the workspace's
      set   Make a route, or put another in its place
      rm    Remove a route
      help  Print this message or the help of the given subcommand(s)

    Options:
          --json     Print the result as one JSON object, and errors as JSON
      -h, --help     Print help
      -V, --version  Print version
    ");
}

#[test]
fn help_of_providers() {
    assert_snapshot!(help(&["providers", "--help"]), @r"
    Show which providers can be asked, and how their keys fare

    Usage: orch providers [OPTIONS] <COMMAND>

    Commands:
      list   List the providers, the keys that there are for each, and how those fare
      reset  Forget what is known of how keys fare: they are asked again
      check  Ask a provider for real, with a key, whether it does what the catalog says of it; costs a
             few tokens
      help   Print this message or the help of the given subcommand(s)

    Options:
          --json     Print the result as one JSON object, and errors as JSON
      -h, --help     Print help
      -V, --version  Print version
    ");
}

#[test]
fn help_of_budgets() {
    assert_snapshot!(help(&["budgets", "--help"]), @r"
    Show what may be spent on models, and free what crashed processes hold of it

    Usage: orch budgets [OPTIONS] <COMMAND>

    Commands:
      list     List the budgets: the server's and the workspace's, with what is used and held of each
      release  Free what is held for calls of processes that died; what calls under way hold stays
      help     Print this message or the help of the given subcommand(s)

    Options:
          --json     Print the result as one JSON object, and errors as JSON
      -h, --help     Print help
      -V, --version  Print version
    ");
}

#[test]
fn help_of_policy_explain() {
    assert_snapshot!(help(&["policy", "explain", "--help"]), @r"
    Say which rule decides about a URL, or what is missing

    Usage: orch policy explain [OPTIONS] <URL>...

    Arguments:
      <URL>...  What would be asked for

    Options:
          --manifest <FILE>      The manifest, a folder with one, or a file with `egress` and `limits`
                                 alone
          --agent <AGENT>        An agent as `orch run` takes it
      -m, --method <METHOD>      The method; GET when nothing is said
          --allow <HOST[:PORT]>  As if the run had this --allow
          --json                 Print the result as one JSON object, and errors as JSON
      -h, --help                 Print help
      -V, --version              Print version
    ");
}

#[test]
fn help_of_policy_check() {
    assert_snapshot!(help(&["policy", "check", "--help"]), @r#"
    Judge a list of URLs by a manifest's egress, one answer a line

    Usage: orch policy check [OPTIONS] --manifest <FILE> --urls <FILE>

    Options:
          --manifest <FILE>  The manifest, a folder with one, or a file with `egress` and `limits` alone
          --urls <FILE>      The URLs: a JSON string on each line; - for standard input
          --json             Print the result as one JSON object, and errors as JSON
      -h, --help             Print help
      -V, --version          Print version

    Prints {"url","decision","reason"} for each line. The policy is the manifest's `egress` as if it
    was granted; no name is looked up. A URL is allowed when a rule allows it with some method.
    "#);
}

#[test]
fn help_of_policy_test() {
    assert_snapshot!(help(&["policy", "test", "--help"]), @r#"
    Check a file of expectations about a policy

    Usage: orch policy test [OPTIONS] <FILE>

    Arguments:
      <FILE>  The file of expectations

    Options:
          --json     Print the result as one JSON object, and errors as JSON
      -h, --help     Print help
      -V, --version  Print version

    FILE, in YAML:
      manifest: orch.yaml        # or `egress: [ … ]`
      tests:
        - { url: "https://api.example.com/v1", expect: allow, rule: 1 }
        - { url: "https://api.example.com/", method: PUT, expect: deny, code: path_not_allowed }
    "#);
}

#[test]
fn help_of_policy_learn() {
    assert_snapshot!(help(&["policy", "learn", "--help"]), @r"
    Write the egress section that would have allowed what was asked for

    Usage: orch policy learn [OPTIONS] [RUN|@FILE]

    Arguments:
      [RUN|@FILE]  The run, such as run_…, here or at the server that commands go to; or @FILE with what
                   `orch run --json` printed

    Options:
          --log <FILE>  Learn from a log instead: what `orch proxy` writes on stderr with
                        --log-decisions or --json, or a server's decisions.jsonl; - for standard input.
                        With RUN, from that run's decisions alone
          --json        Print the result as one JSON object, and errors as JSON
      -h, --help        Print help
      -V, --version     Print version

    It allows what was asked for and nothing else, but where three or more siblings of an identifier
    became a `*`, or a tunnel was asked for; comments say so. Read it before you use it: a program may
    have asked for what it should not.
    ");
}

#[test]
fn help_of_logs() {
    assert_snapshot!(help(&["logs", "--help"]), @r"
    Show the requests that models were asked, or what the agent of a run has logged

    Usage: orch logs [OPTIONS] [RUN|REQUEST]

    Arguments:
      [RUN|REQUEST]
              A run (run_…, or latest for the newest) for its log, or a request (req_…) for its record;
              requests when nothing is said

    Options:
      -f, --follow
              Go on: until the run has ended, or with new requests until interrupted

          --json
              Print the result as one JSON object, and errors as JSON

      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version

    Which requests:
          --token <TOKEN>
              Of this token, by id or name

          --member <NAME>
              Of this member of the workspace

          --agent <AGENT>
              Of this agent

          --of-run <RUN>
              Of this run

          --provider <PROVIDER>
              Answered by this provider, or sent there last

          --model <MODEL>
              Answered by this model, or asked of it

          --credential <NAME>
              Made with this key, such as OPENAI_API_KEY

          --billing <WHOSE>
              Made with a key of the caller's own, of the workspace, or of the operator

              Possible values:
              - own:      The caller's own: it came with the request, or is a member's
              - team:     The workspace's
              - platform: The operator's

          --status <END>
              Ended so

              Possible values:
              - served:     The client got its whole answer
              - failed:     Any of those below
              - all_failed: No candidate answered
              - rejected:   Refused as it was asked
              - limit:      A limit or a budget ended it
              - broken:     The answer broke off after it had begun
              - cancelled:  The client went away

          --class <CLASS>
              Failed with this class, such as rate_limited

          --since <TIME>
              From this time on: a date, a time, or how long ago, such as 2026-01-31 or 7d

          --until <TIME>
              Until before this time

          --workspace <NAME>
              Of this workspace, instead of your own; the operator alone may see others

          --limit <N>
              So many, the newest; 50 when nothing is said

          --csv
              Print comma-separated values under a header
    ");
}

#[test]
fn help_of_usage() {
    assert_snapshot!(help(&["usage", "--help"]), @r"
    Add up runs, calls, tokens and costs

    Usage: orch usage [OPTIONS]

    Options:
          --since <TIME>      From this time on: a date, a time, or how long ago, such as 2026-01-31 or
                              7d
          --until <TIME>      Until before this time
          --by <BY>           What a line stands for [default: day] [possible values: day, agent, model,
                              provider, key, billing, member, token]
          --workspace <NAME>  Of this workspace, instead of your own; the operator alone may see others
          --csv               Print comma-separated values under a header
          --json              Print the result as one JSON object, and errors as JSON
      -h, --help              Print help
      -V, --version           Print version
    ");
}

#[test]
fn help_of_login() {
    assert_snapshot!(help(&["login", "--help"]), @r"
    Keep the token of a server on this machine

    Usage: orch login [OPTIONS] [URL] [-]

    Arguments:
      [URL]  The server's URL; what ORCH_SERVER or the configuration says when nothing is said
      [-]    Read the token from standard input

    Options:
          --token-file <FILE>  Read the token from a file
          --json               Print the result as one JSON object, and errors as JSON
      -h, --help               Print help
      -V, --version            Print version
    ");
}

#[test]
fn help_of_tokens() {
    assert_snapshot!(help(&["tokens", "--help"]), @r"
    Make and revoke tokens of a server

    Usage: orch tokens [OPTIONS] <COMMAND>

    Commands:
      create  Make a token; it is printed once and cannot be shown again
      list    List the tokens; never their text
      revoke  Make a token worthless
      help    Print this message or the help of the given subcommand(s)

    Options:
          --json     Print the result as one JSON object, and errors as JSON
      -h, --help     Print help
      -V, --version  Print version
    ");
}

#[test]
fn help_of_tokens_create() {
    assert_snapshot!(help(&["tokens", "create", "--help"]), @r"
    Make a token; it is printed once and cannot be shown again

    Usage: orch tokens create [OPTIONS] --scope <SCOPE> <NAME>

    Arguments:
      <NAME>
              What it is for, such as ci

    Options:
          --scope <SCOPE>
              What it may be used for

              Possible values:
              - run:       Make, see and cancel runs; see agents
              - llm:       Ask models through the gateway
              - llm:tools: Have providers search, fetch and run tools by themselves (beside llm)
              - publish:   Publish agents
              - secrets:   Store, list and remove secrets
              - grants:    Answer what agents ask for
              - admin:     All of it, tokens and metrics

          --expires <DURATION>
              Refuse it after this time, such as 30d

          --workspace <NAME>
              The workspace it belongs to, instead of your own

          --json
              Print the result as one JSON object, and errors as JSON

      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version
    ");
}

#[test]
fn help_of_completions() {
    assert_snapshot!(help(&["completions", "--help"]), @r"
    Print a script that completes commands in a shell

    Usage: orch completions [OPTIONS] <SHELL>

    Arguments:
      <SHELL>  The shell [possible values: bash, elvish, fish, powershell, zsh]

    Options:
          --json     Print the result as one JSON object, and errors as JSON
      -h, --help     Print help
      -V, --version  Print version
    ");
}

#[test]
fn no_command_is_answered_with_help_on_stderr() {
    let said = said(&[], 2);
    assert_eq!(said, help(&["--help"]));
}

#[test]
fn an_input_that_is_missing() {
    assert_snapshot!(said(&["run", "--local", "orch/summarizer", "--simulate"], 2), @r#"
    error: orch/summarizer needs an input, and there is none: the whole value: "text" is a required property
    hint: --input '{"text":"…"}'
    "#);
}

#[test]
fn a_mistyped_word() {
    assert_snapshot!(said(&["secrets", "lst"], 2), @r"
    error: unrecognized subcommand 'lst'
    hint: a similar subcommand exists: 'list'
    hint: orch secrets --help
    ");
}

#[test]
fn no_key() {
    assert_snapshot!(said(&["run", "--local", "orch/summarizer", "--input", INPUT], 3), @r"
    error: no key for openai (set OPENAI_API_KEY), anthropic (set ANTHROPIC_API_KEY), gemini (set GEMINI_API_KEY or GOOGLE_API_KEY or GOOGLE_GENERATIVE_AI_API_KEY)
    hint: orch secrets set OPENAI_API_KEY
    hint: orch secrets set ANTHROPIC_API_KEY
    hint: orch secrets set GEMINI_API_KEY
    hint: export OPENAI_API_KEY=…
    hint: try it without a key: add --simulate
    ");
}

#[test]
fn a_server_that_is_not_there() {
    let outcome =
        orch(&Home::new()).args(["list"]).env("ORCH_SERVER", "http://127.0.0.1:1").run().expect(8).silent();
    assert_snapshot!(outcome.stderr(), @r"
    error: cannot reach http://127.0.0.1:1: Connection refused (os error 111)
    hint: ORCH_SERVER names this server; is it running?
    ");
}

#[test]
fn a_server_without_tls_on_another_machine() {
    let outcome = orch(&Home::new())
        .args(["list"])
        .env("ORCH_SERVER", "http://orch.example.com")
        .run()
        .expect(2)
        .silent();
    assert_snapshot!(outcome.stderr(), @r"
    error: http://orch.example.com is another machine, and without TLS tokens and keys could be read on the way
    hint: https://orch.example.com
    hint: ORCH_SERVER says so
    ");
}

#[test]
fn nobody_to_ask_for_a_token() {
    assert_snapshot!(said(&["login", "https://orch.example.com"], 2), @r"
    error: no token, and no terminal to ask on
    hint: orch login https://orch.example.com - < FILE
    hint: orch login https://orch.example.com --token-file FILE
    ");
    assert_snapshot!(said(&["login"], 2), @r"
    error: which server? none is configured
    hint: orch login https://orch.example.com
    ");
}

#[test]
fn a_misspelled_agent() {
    assert_snapshot!(said(&["run", "--local", "orch/summarizr"], 2), @r"
    error: no agent orch/summarizr: there is no such file or folder
    hint: agents that come with orch: orch/repo-digest, orch/summarizer, orch/tool-loop, orch/translator
    ");
}

#[test]
fn input_that_does_not_match() {
    assert_snapshot!(said(&["run", "--local", "orch/summarizer", "--simulate", "--input", "{}"], 2), @r#"
    error: the input is not what orch/summarizer takes: the whole value: "text" is a required property
    hint: --input '{"text":"…"}'
    "#);
}

#[test]
fn nobody_to_ask_for_a_value() {
    assert_snapshot!(said(&["secrets", "set", "OPENAI_API_KEY"], 2), @r"
    error: no value for OPENAI_API_KEY, and no terminal to ask on
    hint: orch secrets set OPENAI_API_KEY - < FILE
    hint: orch secrets set OPENAI_API_KEY --from-env
    ");
}

#[test]
fn nothing_was_granted() {
    let stage = Stage::new();
    stage.store("GITHUB_TOKEN", "ghp_0123456789012345", &["--host", "api.github.com"]);
    let fields = json!({
        "egress": [{ "host": "api.github.com", "methods": ["GET"], "paths": ["/repos/**"] }],
        "secrets": [{ "name": "GITHUB_TOKEN", "hosts": ["api.github.com"] }],
    });
    let agent = guest("wanderer", &fields);
    let outcome =
        stage.orch(["run", "--local"]).arg(agent.path()).env("OPENAI_API_KEY", OPENAI_KEY).run().expect(4);
    assert_snapshot!(outcome.stderr(), @r"
    error: test/wanderer 1.0.0 wants to talk to https://api.github.com (GET; /repos/**); to use the secret GITHUB_TOKEN toward api.github.com, and nobody has granted it
    hint: --allow api.github.com
    hint: --secret GITHUB_TOKEN@api.github.com
    ");
}
