//! What `--help` says of the commands that keep keys.

use insta::assert_snapshot;

use super::help;

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
