//! `sifbuild registry`: logins, and what is used for an image.

use super::build::{Stop, finish};
use super::exchange::{RegistryArguments, client_options, registry_host, registry_reference, source, with_registry};
use super::progress::Terminal;
use super::{GlobalArguments, exit, login};
use crate::event::{Event, Observer};
use crate::fetch::auth::store::{self, Keeper};
use crate::fetch::auth::{Credentials, Secret};
use crate::fetch::http::parse_url;
use crate::fetch::trust::files_for;
use clap::{Args, Subcommand};
use std::io::{BufRead, IsTerminal, Read, Write};
use std::path::PathBuf;

/// Longest user or password in bytes; tokens are the longest.
const LONGEST: u64 = 64 << 10;

#[derive(Args, Debug)]
pub struct RegistryCommandArguments {
    #[command(subcommand)]
    command: RegistryCommand,
}

#[derive(Subcommand, Debug)]
enum RegistryCommand {
    /// Check a login with a registry, and keep it
    Login(LoginArguments),
    /// Forget the login for a registry
    Logout {
        /// docker://HOST or oras://HOST
        uri: String,
        #[arg(long, value_name = "FILE")]
        authfile: Option<PathBuf>,
    },
    /// Show the registries that logins are kept for
    List {
        #[arg(long, value_name = "FILE")]
        authfile: Option<PathBuf>,
    },
    /// Show where an image would come from, with which login and which certificates
    Explain {
        /// docker://IMAGE or oras://IMAGE
        uri: String,
        #[command(flatten)]
        registry: RegistryArguments,
    },
}

#[derive(Args, Debug)]
struct LoginArguments {
    /// docker://HOST or oras://HOST
    uri: String,
    /// User; asked for where it is not given
    #[arg(short, long)]
    username: Option<String>,
    /// Password or token; who lists processes sees it: use --password-stdin
    #[arg(short, long, conflicts_with = "password_stdin")]
    password: Option<String>,
    /// Read the password or token from standard input
    #[arg(long)]
    password_stdin: bool,
    /// Talk plain HTTP, and check no certificate
    #[arg(short, long, alias = "no-https", alias = "nohttps")]
    insecure: bool,
    /// File to keep the login in
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
}

pub fn run(arguments: RegistryCommandArguments, global: &GlobalArguments) -> u8 {
    let terminal = Terminal::new(global.progress, global.verbosity(), !global.nocolor);
    finish(match arguments.command {
        RegistryCommand::Login(arguments) => log_in(arguments, &terminal),
        RegistryCommand::Logout { uri, authfile } => log_out(&uri, authfile, &terminal),
        RegistryCommand::List { authfile } => list(authfile, &terminal),
        RegistryCommand::Explain { uri, registry } => explain(&uri, registry, &terminal),
    })
}

fn log_in(arguments: LoginArguments, terminal: &Terminal) -> Result<(), Stop> {
    let host = registry_host(&arguments.uri)?;
    if arguments.password.is_some() {
        let text = "a password among the arguments is seen by everybody on this machine; use --password-stdin";
        terminal.observe(Event::Warning(text.to_owned()));
    }
    let (user, password) = ask(&arguments)?;
    let mut registry = RegistryArguments {
        no_https: arguments.insecure,
        docker_username: Some(user.clone()),
        docker_password: Some(password.reveal().to_owned()),
        authfile: arguments.authfile,
        ..RegistryArguments::default()
    };
    let asked =
        with_registry(&mut registry, terminal, |registry| registry.check_login(&host, terminal).map_err(source))?;
    if !asked {
        let text = format!("{host} asked for no login, so that it could not be checked; it is kept all the same");
        terminal.observe(Event::Warning(text));
    }
    let path = login_file(&registry.credentials())?;
    let keeper = store::log_in(&path, &host, &user, &password).map_err(output)?;
    let place = match keeper {
        Keeper::File => path.display().to_string(),
        Keeper::Helper(name) => format!("docker-credential-{name}, which {} names", path.display()),
    };
    terminal.observe(Event::Info(format!("Logged in to {host} as {user}; the login is kept in {place}")));
    Ok(())
}

fn ask(arguments: &LoginArguments) -> Result<(String, Secret), Stop> {
    let fault = |error: std::io::Error| Stop::usage(format!("the login cannot be read: {error}"));
    let terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    let user = match &arguments.username {
        Some(user) => user.clone(),
        None if terminal && !arguments.password_stdin => {
            eprint!("Enter user: ");
            let mut line = String::new();
            std::io::stdin().lock().take(LONGEST).read_line(&mut line).map_err(fault)?;
            line.trim().to_owned()
        }
        None => return Err(Stop::usage("--username is needed where nobody can be asked")),
    };
    let password = match &arguments.password {
        Some(password) => password.clone(),
        None if arguments.password_stdin => {
            let mut text = String::new();
            std::io::stdin().lock().take(LONGEST).read_to_string(&mut text).map_err(fault)?;
            text.trim_end_matches(['\n', '\r']).to_owned()
        }
        None if terminal => {
            let answer = login::read_hidden("Enter password or token: ");
            eprintln!();
            let none = || Stop { text: "nothing is kept".to_owned(), code: 128 + 2 };
            answer.map_err(fault)?.ok_or_else(none)?
        }
        None => return Err(Stop::usage("--password-stdin is needed where nobody can be asked")),
    };
    if user.is_empty() || user.contains(':') || password.is_empty() {
        return Err(Stop::usage("a login has a user (without a colon) and a password"));
    }
    Ok((user, Secret::new(password)))
}

fn login_file(credentials: &Credentials) -> Result<PathBuf, Stop> {
    let file = credentials.login_file(&|name| std::env::var(name).ok());
    file.ok_or_else(|| Stop::usage("HOME is not set, so that there is no place for the login; --authfile names one"))
}

fn output(error: impl std::fmt::Display) -> Stop {
    Stop { text: error.to_string(), code: exit::OUTPUT }
}

fn log_out(uri: &str, authfile: Option<PathBuf>, terminal: &Terminal) -> Result<(), Stop> {
    let host = registry_host(uri)?;
    let credentials = RegistryArguments { authfile, ..RegistryArguments::default() }.credentials();
    let path = login_file(&credentials)?;
    match store::log_out(&path, &host).map_err(output)? {
        true => terminal.observe(Event::Info(format!("The login for {host} is removed from {}", path.display()))),
        false => terminal.observe(Event::Info(format!("{} has no login for {host}", path.display()))),
    }
    // Other programs' files are theirs; but whoever logs out wants to know.
    let other = Credentials { explicit: None, ..credentials }.lookup(&host, "");
    if let Some(found) = other.found {
        terminal.observe(Event::Warning(format!("there is still a login for {host}: {}", found.origin)));
    }
    Ok(())
}

fn list(authfile: Option<PathBuf>, terminal: &Terminal) -> Result<(), Stop> {
    let credentials = RegistryArguments { authfile, ..RegistryArguments::default() }.credentials();
    let files = credentials.authfile.as_ref().map_or(credentials.files.as_slice(), std::slice::from_ref);
    let mut rows = Vec::new();
    for path in files.iter().filter(|path| path.exists()) {
        match store::list(path) {
            Ok(logins) => rows.extend(logins.into_iter().map(|login| (login.server, login.who, path))),
            Err(error) => terminal.observe(Event::Warning(error.to_string())),
        }
    }
    let mut text = String::new();
    for (server, who, path) in &rows {
        text.push_str(&format!("{server:<40} {who:<30} {}\n", path.display()));
    }
    print(&text)
}

fn explain(uri: &str, mut arguments: RegistryArguments, terminal: &Terminal) -> Result<(), Stop> {
    let reference = registry_reference(uri)?;
    let options = client_options();
    let (endpoints, credentials) = with_registry(&mut arguments, terminal, |registry| {
        Ok((registry.endpoints(&reference).map_err(source)?, registry.credentials().clone()))
    })?;
    let mut text = format!("image: {reference}\n");
    for endpoint in &endpoints {
        let kind = if endpoint.mirror { "mirror" } else { "registry" };
        text.push_str(&format!("\n{kind}: {}/{}\n", endpoint.host, endpoint.repository));
        text.push_str(match endpoint.insecure {
            true => "  connection: HTTPS without a check of the certificate, or plain HTTP\n",
            false => "  connection: HTTPS\n",
        });
        let url = parse_url(&format!("https://{}/", endpoint.host)).map_err(source)?;
        for file in files_for(&options, &url) {
            let what =
                if file.extension().is_some_and(|end| end == "cert") { "client certificate" } else { "authority" };
            text.push_str(&format!("  {what}: {}\n", file.display()));
        }
        let name = if endpoint.host == "registry-1.docker.io" { "docker.io" } else { &endpoint.host };
        let lookup = credentials.lookup(name, &endpoint.repository);
        match &lookup.found {
            Some(found) => text.push_str(&format!("  login: {}\n", found.origin)),
            None => text.push_str("  login: none\n"),
        }
        for path in &lookup.searched {
            text.push_str(&format!("  no login for it in: {}\n", path.display()));
        }
        lookup.warnings.iter().for_each(|warning| text.push_str(&format!("  warning: {warning}\n")));
    }
    text.push_str(&proxies());
    print(&text)
}

/// The proxy variables that are set; of their addresses no login.
fn proxies() -> String {
    let mut text = String::new();
    for name in
        ["https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"]
    {
        let Some(value) = std::env::var(name).ok().filter(|value| !value.is_empty()) else { continue };
        let shown = value.rsplit('@').next().unwrap_or_default();
        text.push_str(&format!("\n{name}: {shown}"));
    }
    if text.is_empty() { text } else { text + "\n" }
}

fn print(text: &str) -> Result<(), Stop> {
    std::io::stdout().lock().write_all(text.as_bytes()).map_err(output)
}
