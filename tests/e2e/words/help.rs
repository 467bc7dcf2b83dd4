//! What `--help` says of the commands.

use insta::assert_snapshot;

use super::help;

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
