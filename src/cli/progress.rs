//! What a person, or a CI system, sees of a build: bars at a terminal, plain lines elsewhere, JSON lines on request.

use crate::event::{Event, Observer, Task};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ProgressForm {
    /// Bars when stderr is a terminal, plain lines otherwise
    #[default]
    Auto,
    Plain,
    Json,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Errors only.
    Silent,
    /// Warnings and errors.
    Quiet,
    Normal,
    Verbose,
}

/// Writes events to stderr.
pub struct Terminal {
    form: ProgressForm,
    verbosity: Verbosity,
    colour: bool,
    bars: MultiProgress,
    open: Mutex<HashMap<(Task, String), ProgressBar>>,
}

impl Terminal {
    pub fn new(form: ProgressForm, verbosity: Verbosity, colour: bool) -> Terminal {
        let terminal = std::io::stderr().is_terminal();
        let form = match form {
            ProgressForm::Auto if terminal && verbosity >= Verbosity::Normal => ProgressForm::Auto,
            ProgressForm::Auto => ProgressForm::Plain,
            other => other,
        };
        let colour = colour && terminal && std::env::var_os("NO_COLOR").is_none();
        Terminal { form, verbosity, colour, bars: MultiProgress::new(), open: Mutex::default() }
    }

    fn line(&self, text: &str) {
        self.bars.suspend(|| {
            // A closed stderr is no reason to stop a build.
            let _ = writeln!(std::io::stderr().lock(), "{text}");
        });
    }

    fn labelled(&self, label: &str, colour: u8, text: &str) {
        if self.colour {
            self.line(&format!("\x1b[{colour}m{label:<9}\x1b[0m{text}"));
        } else {
            self.line(&format!("{label:<9}{text}"));
        }
    }

    fn bar(&self, task: Task, subject: &str, done: u64, total: Option<u64>) {
        if self.form != ProgressForm::Auto {
            return;
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = open.entry((task, subject.to_owned())).or_insert_with(|| {
            let bar = self.bars.add(match total {
                Some(total) => ProgressBar::new(total),
                None => ProgressBar::no_length(),
            });
            let template = match total {
                Some(_) => "{prefix:<7} {msg:<24!} {wide_bar} {bytes:>10}/{total_bytes:<10} {bytes_per_sec:>12}",
                None => "{prefix:<7} {msg:<24!} {spinner} {bytes:>10} {bytes_per_sec:>12}",
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.set_prefix(task_name(task));
            bar.set_message(subject.trim_start_matches("sha256:").to_owned());
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        bar.set_position(done);
    }

    fn finish(&self, task: Task, subject: &str) {
        let bar = self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&(task, subject.to_owned()));
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
    }

    fn plain(&self, event: Event) {
        match event {
            Event::Info(text) if self.verbosity >= Verbosity::Normal => self.labelled("INFO:", 34, &text),
            Event::Warning(text) if self.verbosity >= Verbosity::Quiet => self.labelled("WARNING:", 33, &text),
            Event::Detail(text) if self.verbosity >= Verbosity::Verbose => self.labelled("VERBOSE:", 36, &text),
            Event::StepStarted { step } if self.verbosity >= Verbosity::Verbose => self.labelled("STEP:", 36, &step),
            Event::StepFinished { step, reused, milliseconds } if self.verbosity >= Verbosity::Normal => {
                let seconds = milliseconds as f64 / 1000.0;
                if reused {
                    self.labelled("INFO:", 34, &format!("{step}: reused"));
                } else if self.verbosity >= Verbosity::Verbose || seconds >= 1.0 {
                    self.labelled("INFO:", 34, &format!("{step}: done in {seconds:.1} s"));
                }
            }
            Event::Output { line, .. } if self.verbosity >= Verbosity::Normal => self.line(&line),
            Event::Progress { task, subject, done, total } => self.bar(task, &subject, done, total),
            Event::ProgressFinished { task, subject } => self.finish(task, &subject),
            _ => {}
        }
    }
}

impl Observer for Terminal {
    fn observe(&self, event: Event) {
        match self.form {
            ProgressForm::None => {}
            ProgressForm::Json => self.line(&json(&event).to_string()),
            ProgressForm::Auto | ProgressForm::Plain => self.plain(event),
        }
    }
}

fn task_name(task: Task) -> &'static str {
    match task {
        Task::Pull => "pull",
        Task::Push => "push",
        Task::Unpack => "unpack",
        Task::Pack => "pack",
    }
}

/// One event as a JSON object with the member `event`.
fn json(event: &Event) -> serde_json::Value {
    use serde_json::json;
    match event {
        Event::Info(text) => json!({"event": "info", "text": text}),
        Event::Warning(text) => json!({"event": "warning", "text": text}),
        Event::Detail(text) => json!({"event": "detail", "text": text}),
        Event::StepStarted { step } => json!({"event": "step-started", "step": step}),
        Event::StepFinished { step, reused, milliseconds } => {
            json!({"event": "step-finished", "step": step, "reused": reused, "milliseconds": milliseconds})
        }
        Event::Output { step, line } => json!({"event": "output", "step": step, "line": line}),
        Event::Progress { task, subject, done, total } => {
            json!({"event": "progress", "task": task_name(*task), "subject": subject, "done": done, "total": total})
        }
        Event::ProgressFinished { task, subject } => {
            json!({"event": "progress-finished", "task": task_name(*task), "subject": subject})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_one_json_object_with_its_name() {
        let event = Event::StepFinished { step: "post".to_owned(), reused: true, milliseconds: 7 };
        assert_eq!(
            json(&event).to_string(),
            r#"{"event":"step-finished","step":"post","reused":true,"milliseconds":7}"#
        );
    }
}
