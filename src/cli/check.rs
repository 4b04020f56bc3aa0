//! `sifbuild check`: what is wrong with definition files, and what will surprise their authors.

use crate::definition::{self, Arguments, Parsed, render};
use crate::diagnostic::{Diagnostic, Severity};
use crate::source::SourceFile;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Clone, Debug, clap::Args)]
pub struct CheckArguments {
    /// Definition files
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// How to print what was found
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Print the parsed stages too
    #[arg(long, value_enum, value_name = "FORM")]
    pub print: Option<Print>,
    /// Correct in the files what can be corrected mechanically
    #[arg(long)]
    pub fix: bool,
    /// Build argument; the last of one key wins
    #[arg(long = "build-arg", value_name = "KEY=VALUE")]
    pub build_arguments: Vec<String>,
    /// File with a build argument a line
    #[arg(long = "build-arg-file", value_name = "FILE")]
    pub build_argument_file: Option<PathBuf>,
    /// Warn of build arguments that no stage uses, instead of failing
    #[arg(long)]
    pub warn_unused_build_args: bool,
    /// Fail on what is named
    #[arg(long, value_enum, value_name = "WHAT")]
    pub deny: Option<Deny>,
    /// Say nothing of warnings with this code
    #[arg(long, value_name = "CODE")]
    pub allow: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people, on the standard error
    Text,
    /// An array of objects
    Json,
    /// SARIF 2.1.0
    Sarif,
    /// Annotations of GitHub workflows
    Github,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Print {
    /// Apptainer's own JSON form
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Deny {
    Warnings,
}

/// How often fixes are put in and the result looked at again.
const FIX_ROUNDS: usize = 5;

/// Checks the files. The exit code: 0 when all is well, 1 when there are errors (or warnings that are denied).
pub fn run(check: &CheckArguments) -> i32 {
    let mut diagnostics = Vec::new();
    let mut printed = String::new();
    match read_arguments(check, &mut diagnostics) {
        Err(message) => {
            eprintln!("sifbuild check: {message}");
            return 1;
        }
        Ok(arguments) => {
            for path in &check.files {
                match check_file(check, path, &arguments) {
                    Ok(parsed) => {
                        diagnostics.extend(parsed.diagnostics);
                        if let (Some(Print::Json), Some(definition)) = (check.print, &parsed.definition) {
                            printed.push_str(&definition::print_json(definition));
                        }
                    }
                    Err(message) => {
                        eprintln!("sifbuild check: {message}");
                        return 1;
                    }
                }
            }
        }
    }
    let allowed = |found: &Diagnostic| {
        found.severity == Severity::Error || !check.allow.iter().any(|code| code.eq_ignore_ascii_case(found.code))
    };
    diagnostics.retain(allowed);
    print(check, &diagnostics, &printed);
    let failing = if check.deny == Some(Deny::Warnings) { Severity::Warning } else { Severity::Error };
    i32::from(diagnostics.iter().any(|found| found.severity <= failing))
}

fn read_arguments(check: &CheckArguments, diagnostics: &mut Vec<Diagnostic>) -> Result<Arguments, String> {
    let mut arguments = Arguments::default();
    arguments.warn_unused = check.warn_unused_build_args;
    if let Some(path) = &check.build_argument_file {
        match read(path)? {
            Ok(file) => diagnostics.extend(arguments.add_file(&file)),
            Err(diagnostic) => diagnostics.push(*diagnostic),
        }
    }
    for text in &check.build_arguments {
        arguments.add(text).map_err(|error| error.to_string())?;
    }
    Ok(arguments)
}

/// Parses a file, and with `--fix` writes it corrected.
fn check_file(check: &CheckArguments, path: &Path, arguments: &Arguments) -> Result<Parsed, String> {
    let mut source = match read(path)? {
        Ok(source) => source,
        Err(diagnostic) => return Ok(Parsed { definition: None, diagnostics: vec![*diagnostic] }),
    };
    let mut parsed = definition::parse(&source, arguments);
    if !check.fix {
        return Ok(parsed);
    }
    let before = Arc::clone(&source);
    for _ in 0..FIX_ROUNDS {
        let silenced = |found: &&Diagnostic| !check.allow.iter().any(|code| code.eq_ignore_ascii_case(found.code));
        let fixing: Vec<Diagnostic> = parsed.diagnostics.iter().filter(silenced).cloned().collect();
        let fixed = render::apply_fixes(&source.text, &fixing);
        if fixed == source.text {
            break;
        }
        source = SourceFile::new(source.name.clone(), fixed);
        parsed = definition::parse(&source, arguments);
    }
    if source.text != before.text {
        write(path, &source.text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(parsed)
}

fn read(path: &Path) -> Result<Result<Arc<SourceFile>, Box<Diagnostic>>, String> {
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|error| format!("cannot read {name}: {error}"))?;
    Ok(definition::read_text(&name, bytes))
}

/// Replaces a file's contents in one step, and keeps its mode. A symlink stays one.
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let target = path.canonicalize()?;
    let directory = target.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(text.as_bytes())?;
    file.as_file().set_permissions(std::fs::metadata(&target)?.permissions())?;
    file.persist(&target)?;
    Ok(())
}

fn print(check: &CheckArguments, diagnostics: &[Diagnostic], printed: &str) {
    let mut output = std::io::stdout().lock();
    let text = match check.format {
        Format::Text => {
            let styled = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            eprint!("{}", render::text(diagnostics, styled));
            String::new()
        }
        Format::Json => render::json(diagnostics),
        Format::Sarif => render::sarif(diagnostics),
        Format::Github => render::github(diagnostics),
    };
    // A reader that has seen enough closes the pipe; nothing is lost by that.
    let _ = output.write_all(text.as_bytes()).and_then(|()| output.write_all(printed.as_bytes()));
}
