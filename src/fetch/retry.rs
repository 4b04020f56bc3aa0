//! When to ask again: exponential back-off, and what the server says in `Retry-After`.
//!
//! Sources: RFC 9110 §10.2.3 (Retry-After) and §5.6.7 (dates).

use super::error::{FetchError, clean, shown};
use super::http::{Fetch, Request, Response};
use crate::event::{Event, Observer};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often and how long to try again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Tries after the first one that bring nothing new.
    pub retries: u32,
    /// Wait before the first retry; doubled for each later one.
    pub first_wait: Duration,
    /// No wait is longer; a server that wants a longer one is given up.
    pub longest_wait: Duration,
    /// Spread waits by up to a half, so that many builds do not return at the same moment.
    pub jitter: bool,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            retries: 5,
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(120),
            jitter: true,
        }
    }
}

impl Patience {
    /// Wait before retry number `attempt` (from 0), without what the server says.
    pub fn wait(&self, attempt: u32) -> Duration {
        let plain = self.first_wait.saturating_mul(1 << attempt.min(16)).min(self.longest_wait);
        if !self.jitter {
            return plain;
        }
        let nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.subsec_nanos());
        (plain + plain.mul_f64(f64::from(nanoseconds % 1000) / 2000.0)).min(self.longest_wait)
    }

    /// Sleeps before the next try of what failed with `error`, or gives the error back when there should be none.
    pub(crate) fn pause(&self, error: FetchError, attempt: u32, observer: &dyn Observer) -> Result<(), FetchError> {
        if !error.is_transient() || attempt >= self.retries {
            return Err(error);
        }
        let mut wait = self.wait(attempt);
        if let FetchError::Status { url, retry_after: Some(told), .. } = &error {
            if *told > self.longest_wait {
                return Err(FetchError::LongWait { url: url.clone(), seconds: told.as_secs() });
            }
            wait = wait.max(*told);
        }
        observer.observe(Event::Detail(format!("trying again in {:.1} s: {error}", wait.as_secs_f64())));
        std::thread::sleep(wait);
        Ok(())
    }
}

/// A small document, whole in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Where it came from after redirects, as [`shown`].
    pub url: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub bytes: Vec<u8>,
}

impl Document {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Fetches at most `limit` bytes into memory, again after failures that may pass.
/// Any status but 2xx is [`FetchError::Status`].
pub fn get(fetch: &dyn Fetch, request: &Request, limit: u64, observer: &dyn Observer) -> Result<Document, FetchError> {
    let patience = fetch.patience();
    let mut attempt = 0;
    loop {
        match get_once(fetch, request, limit) {
            Ok(document) => return Ok(document),
            Err(error) => patience.pause(error, attempt, observer)?,
        }
        attempt += 1;
    }
}

fn get_once(fetch: &dyn Fetch, request: &Request, limit: u64) -> Result<Document, FetchError> {
    let response = fetch.send(request)?;
    if !(200..300).contains(&response.status) {
        return Err(refusal(response));
    }
    let url = shown(&response.url);
    let headers = response.headers.clone();
    Ok(Document { url, headers, bytes: response.read(limit)? })
}

/// The error for a response that is not a success, with what its body says.
pub(crate) fn refusal(response: Response) -> FetchError {
    let url = shown(&response.url);
    let status = response.status;
    let retry_after = response.header("retry-after").and_then(parse_retry_after);
    let textual =
        response.header("content-type").is_some_and(|kind| kind.starts_with("text/plain") || kind.contains("json"));
    let mut detail = String::new();
    if textual && let Ok(bytes) = response.read_start(2048) {
        let text = clean(&String::from_utf8_lossy(&bytes), 200);
        if !text.is_empty() {
            detail = format!(" ({text})");
        }
    }
    FetchError::Status { url, status, detail, retry_after }
}

/// Seconds, or a date.
pub(crate) fn parse_retry_after(value: &str) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u32>() {
        return Some(Duration::from_secs(u64::from(seconds)));
    }
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(parse_date(value)?))?;
    Some(at.duration_since(SystemTime::now()).unwrap_or_default())
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` as seconds since 1970.
fn parse_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut parts = text.split_once(", ")?.1.split(' ');
    let day = parts.next()?.parse::<u64>().ok().filter(|day| (1..=31).contains(day))?;
    let name = parts.next()?;
    let month = MONTHS.iter().position(|month| *month == name)? as u64 + 1;
    let year = parts.next()?.parse::<u64>().ok().filter(|year| (1970..=9999).contains(year))?;
    let mut clock = parts.next()?.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days before the month in a year that starts in March, so that the leap day comes last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    Some(days.checked_sub(719_468)? * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn doubles_the_wait_up_to_the_longest() {
        let patience = Patience {
            retries: 9,
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(5),
            jitter: false,
        };
        let waits: Vec<u64> = (0..5).map(|attempt| patience.wait(attempt).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 5, 5]);
        assert_eq!(patience.wait(u32::MAX).as_secs(), 5);
    }

    #[test]
    fn reads_dates_as_rfc_9110_writes_them() {
        assert_eq!(parse_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(parse_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(parse_date("Tue, 29 Feb 2000 12:00:00 GMT"), Some(951_825_600));
        assert_eq!(parse_date("Sunday"), None);
        assert_eq!(parse_retry_after("120"), Some(Duration::from_secs(120)));
        assert_eq!(parse_retry_after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert_eq!(parse_retry_after("soon"), None);
    }

    proptest! {
        #[test]
        fn never_panics_on_any_retry_after(text in ".{0,60}") {
            let _ = parse_retry_after(&text);
        }
    }
}
