//! The arguments that the command line accepts and refuses.

use clap::CommandFactory;

use super::*;

fn words(line: &str) -> Result<Cli, Failure> {
    parse(format!("datastream {line}").split_whitespace().map(Into::into))
}

fn refused(line: &str) -> String {
    match words(line) {
        Err(Failure::Usage(message)) => message,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn verify_cli() {
    Cli::command().debug_assert();
}

#[test]
fn without_a_command_it_serves() {
    let cli = words("--http-addr 127.0.0.1:0").expect("parsed");
    assert!(cli.command.is_none());
    assert_eq!(cli.serve.server.http.http_addr.to_string(), "127.0.0.1:0");
    let Ok(Cli { command: Some(Command::Serve(options)), .. }) = words("serve --http-addr [::1]:1")
    else {
        panic!("serve")
    };
    assert_eq!(options.server.http.http_addr.to_string(), "[::1]:1");
}

#[test]
fn an_error_is_one_line_that_names_option_and_variable() {
    for (line, option, variable) in [
        ("--heartbeat 0s", "--heartbeat", "DATASTREAM_HEARTBEAT"),
        ("serve --history 0", "--history", "DATASTREAM_HISTORY"),
        ("demo --speed 0", "--speed", "DATASTREAM_DEMO_SPEED"),
        ("migrate --log-format xml", "--log-format", "DATASTREAM_LOG_FORMAT"),
        ("--http-addr nowhere", "--http-addr", "DATASTREAM_HTTP_ADDR"),
    ] {
        let message = refused(line);
        assert!(message.contains(option) && message.contains(variable), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }
    assert!(refused("--no-such").contains("--no-such"));
    assert!(refused("dance").contains("dance"));
    assert!(refused("migrate --revert --capture poll").contains("--capture"));
}

#[test]
fn help_lists_every_flag_with_its_variable_under_a_heading() {
    let help = Cli::command().render_long_help().to_string();
    for heading in ["Database:", "HTTP:", "WebTransport:", "Streaming:", "Limits:", "Logging:"] {
        assert!(help.contains(heading), "{heading}");
    }
    for arg in Cli::command().get_arguments().filter(|arg| arg.get_long() != Some("help")) {
        let flag = format!("--{}", arg.get_long().expect("a flag"));
        assert!(help.contains(&flag), "{flag}");
        if flag != "--version" {
            let variable = arg.get_env().unwrap_or_else(|| panic!("{flag} has no variable"));
            assert!(help.contains(&*variable.to_string_lossy()), "{flag}");
        }
    }
}

#[test]
fn the_example_file_has_every_variable_of_every_command() {
    let example = include_str!("../../.env.example");
    let cli = Cli::command();
    let commands = cli.get_subcommands().chain([&cli]);
    for arg in commands.flat_map(clap::Command::get_arguments) {
        let Some(variable) = arg.get_env() else { continue };
        let line = format!("\n#{}=", variable.to_string_lossy());
        assert!(example.contains(&line), "{line}");
    }
}
