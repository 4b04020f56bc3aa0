use super::*;
use crate::event::{Recorder, Silent};
use crate::fetch::auth::Secret;
use crate::fetch::client::{Client, ClientOptions};
use crate::fetch::fake_server::{Answer, FakeServer, client};
use crate::fetch::http::parse_url;
use crate::fetch::retry::{Patience, get};

fn content() -> Vec<u8> {
    (0..300_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn exactly(bytes: &[u8]) -> Expected {
    Expected { digest: Some(Digest::of(bytes)), size: Some(bytes.len() as u64), most: None }
}

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place { directory: tempfile::tempdir().unwrap() }
    }

    fn target(&self) -> PathBuf {
        self.directory.path().join("blobs/file")
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.directory.path().join("blobs"))
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn download(&self, urls: &[Url], expected: &Expected) -> Result<Downloaded, FetchError> {
        download(&client(), urls, &self.target(), expected, &Silent, "file")
    }
}

#[test]
fn places_a_file_and_tells_its_progress() {
    let bytes = content();
    let served = bytes.clone();
    let server = FakeServer::start(move |asked, _| Answer::file(asked, &served, "\"1\""));
    let place = Place::new();
    let recorder = Recorder::default();
    let urls = [server.url("/file")];
    let done = download(&client(), &urls, &place.target(), &Expected::default(), &recorder, "file").unwrap();
    assert_eq!(done, Downloaded { digest: Digest::of(&bytes), size: 300_000, url: urls[0].to_string() });
    assert_eq!(std::fs::read(place.target()).unwrap(), bytes);
    assert_eq!(place.names(), ["file"]);
    let events = recorder.events.into_inner().unwrap();
    let end = Event::Progress { task: Task::Pull, subject: "file".to_owned(), done: 300_000, total: Some(300_000) };
    assert!(events.contains(&end));
    assert_eq!(events.last(), Some(&Event::ProgressFinished { task: Task::Pull, subject: "file".to_owned() }));
}

#[test]
fn goes_on_where_the_connection_was_cut() {
    let bytes = content();
    let served = bytes.clone();
    let server = FakeServer::start(move |asked, before| {
        let mut answer = Answer::file(asked, &served, "\"1\"");
        answer.cut_after = (before < 4).then_some(50_000);
        answer
    });
    let place = Place::new();
    place.download(&[server.url("/file")], &exactly(&bytes)).unwrap();
    assert_eq!(std::fs::read(place.target()).unwrap(), bytes);
    let ranges: Vec<_> = server.asked().iter().map(|asked| asked.header("range").map(str::to_owned)).collect();
    assert_eq!(ranges[0], None);
    assert_eq!(ranges[1].as_deref(), Some("bytes=50000-"));
    assert_eq!(ranges[4].as_deref(), Some("bytes=200000-"));
    assert_eq!(server.asked()[1].header("if-range"), Some("\"1\""));
    assert_eq!(server.asked()[1].header("accept-encoding"), Some("identity"));
}

#[test]
fn starts_over_when_the_file_changed_meanwhile() {
    let (old, new) = (content(), vec![7; 200_000]);
    let (first, second) = (old.clone(), new.clone());
    let server = FakeServer::start(move |asked, before| {
        if before > 0 {
            return Answer::file(asked, &second, "\"2\"");
        }
        Answer { cut_after: Some(50_000), ..Answer::file(asked, &first, "\"1\"") }
    });
    let place = Place::new();
    let done = place.download(&[server.url("/file")], &Expected::default()).unwrap();
    assert_eq!(done.digest, Digest::of(&new));
    assert_eq!(std::fs::read(place.target()).unwrap(), new);
}

#[test]
fn notices_a_file_that_ends_too_early_without_a_length() {
    let bytes = content();
    let served = bytes.clone();
    let server = FakeServer::start(move |asked, before| Answer {
        without_length: true,
        cut_after: (before == 0).then_some(1000),
        ..Answer::file(asked, &served, "\"1\"")
    });
    let place = Place::new();
    place.download(&[server.url("/file")], &exactly(&bytes)).unwrap();
    assert_eq!(server.asked()[1].header("range"), Some("bytes=1000-"));
}

#[test]
fn does_not_join_a_range_that_was_not_asked_for() {
    let bytes = content();
    let served = bytes.clone();
    let server = FakeServer::start(move |asked, before| match before {
        0 => Answer { cut_after: Some(1000), ..Answer::file(asked, &served, "\"1\"") },
        1 => Answer::new(206, &served[5..]).header("Content-Range", "bytes 5-299999/300000"),
        _ => Answer::file(asked, &served, "\"1\""),
    });
    let place = Place::new();
    place.download(&[server.url("/file")], &exactly(&bytes)).unwrap();
    assert_eq!(std::fs::read(place.target()).unwrap(), bytes);
    assert_eq!(server.asked()[2].header("range"), None);
}

#[test]
fn a_wrong_digest_names_both_and_leaves_the_old_file() {
    let server = FakeServer::start(|asked, _| Answer::file(asked, b"other", "\"1\""));
    let place = Place::new();
    std::fs::create_dir_all(place.target().parent().unwrap()).unwrap();
    std::fs::write(place.target(), "old").unwrap();
    let error = place.download(&[server.url("/file")], &exactly(b"right")).unwrap_err();
    let (wanted, found) = (Digest::of(b"right"), Digest::of(b"other"));
    let text = format!("{} has the digest {found}, {wanted} was expected", server.url("/file"));
    assert!(error.to_string().starts_with(&text), "{error}");
    assert_eq!(std::fs::read(place.target()).unwrap(), b"old");
    assert_eq!(place.names(), ["file"]);
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn tries_mirrors_in_turn_and_says_what_failed_before() {
    let missing = FakeServer::start(|_, _| Answer::new(404, ""));
    let wrong = FakeServer::start(|asked, _| Answer::file(asked, b"wrong", "\"1\""));
    let right = FakeServer::start(|asked, _| Answer::file(asked, b"right", "\"1\""));
    let place = Place::new();
    let urls = [missing.url("/file"), wrong.url("/file"), right.url("/file")];
    let done = place.download(&urls, &exactly(b"right")).unwrap();
    assert_eq!(done.url, urls[2].to_string());
    let error = place.download(&urls[..2], &exactly(b"right")).unwrap_err().to_string();
    assert!(error.contains("1 other place(s)") && error.contains("answered 404"), "{error}");
    let dead = parse_url("http://127.0.0.1:9/file").unwrap();
    let observer = Recorder::default();
    let urls = [dead, right.url("/file")];
    download(&client(), &urls, &place.target(), &exactly(b"right"), &observer, "x").unwrap();
    let waited = |event: &Event| matches!(event, Event::Detail(text) if text.contains("trying again"));
    assert!(!observer.events.lock().unwrap().iter().any(waited), "a dead mirror is not waited for");
    assert!(place.download(&[], &exactly(b"right")).unwrap_err().to_string().contains("no place was given"));
}

#[test]
fn waits_as_long_as_the_server_tells() {
    let server = FakeServer::start(|asked, before| match before {
        0 => Answer::new(429, "").header("Retry-After", "1"),
        _ => Answer::file(asked, b"right", "\"1\""),
    });
    let place = Place::new();
    let start = Instant::now();
    place.download(&[server.url("/file")], &exactly(b"right")).unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[test]
fn gives_a_server_up_that_wants_too_long_a_wait() {
    let server = FakeServer::start(|_, _| Answer::new(429, "").header("Retry-After", "3600"));
    let error = Place::new().download(&[server.url("/file")], &Expected::default()).unwrap_err();
    assert!(error.to_string().contains("a wait of 3600 s"), "{error}");
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn gives_up_after_the_last_retry_and_repeats_what_the_server_said() {
    let server = FakeServer::start(|_, _| Answer::new(503, "over\u{1b}[31mload").header("Content-Type", "text/plain"));
    let error = Place::new().download(&[server.url("/file")], &Expected::default()).unwrap_err();
    assert_eq!(server.asked().len(), 4);
    assert!(error.to_string().contains("answered 503 (over [31mload); the server is in trouble"), "{error}");
}

#[test]
fn an_endless_body_ends_at_the_known_size_or_the_limit() {
    let server = FakeServer::start(|_, _| Answer { endless: true, ..Answer::new(200, vec![1; 4096]) });
    let place = Place::new();
    let error = place.download(&[server.url("/file")], &exactly(b"right")).unwrap_err().to_string();
    assert!(error.contains("bytes long, 5 were expected"), "{error}");
    let limited = Expected { most: Some(100_000), ..Expected::default() };
    let error = place.download(&[server.url("/file")], &limited).unwrap_err().to_string();
    assert!(error.contains("more than 100000 bytes"), "{error}");
    assert_eq!(place.names(), Vec::<String>::new());
    let request = Request::get(server.url("/file"));
    let error = get(&client(), &request, 1000, &Silent).unwrap_err().to_string();
    assert!(error.contains("more than 1000 bytes"), "{error}");
}

#[test]
fn breaks_off_a_transfer_that_brings_nothing_and_goes_on() {
    let bytes = content();
    let served = bytes.clone();
    let server = FakeServer::start(move |asked, before| {
        let mut answer = Answer::file(asked, &served, "\"1\"");
        if before == 0 {
            answer.cut_after = Some(1000);
            answer.silence = Some(Duration::from_secs(20));
        }
        answer
    });
    let options = ClientOptions {
        environment_proxies: false,
        stall_timeout: Duration::from_millis(300),
        ..ClientOptions::default()
    };
    let client = Client::new(options).unwrap();
    let place = Place::new();
    let start = Instant::now();
    download(&client, &[server.url("/file")], &place.target(), &exactly(&bytes), &Silent, "file").unwrap();
    assert!(start.elapsed() < Duration::from_secs(15));
    assert_eq!(server.asked()[1].header("range"), Some("bytes=1000-"));
}

#[test]
fn breaks_off_an_answer_that_only_drips() {
    let server = FakeServer::start(|_, _| Answer {
        endless: true,
        silence: Some(Duration::from_millis(50)),
        ..Answer::new(200, "x")
    });
    let options = ClientOptions {
        environment_proxies: false,
        stall_timeout: Duration::from_millis(300),
        patience: Patience { retries: 0, ..Patience::default() },
        ..ClientOptions::default()
    };
    let client = Client::new(options).unwrap();
    let (start, request) = (Instant::now(), crate::fetch::http::Request::get(server.url("/document")));
    let error = get(&client, &request, 1 << 20, &Silent).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(15));
    assert!(error.to_string().contains("bytes came in"), "{error}");
}

#[test]
fn continues_what_an_earlier_run_left() {
    let bytes = content();
    let served = bytes.clone();
    let server = FakeServer::start(move |asked, before| {
        if before < 4 {
            return Answer {
                cut_after: Some(if before == 0 { 70_000 } else { 0 }),
                ..Answer::file(asked, &served, "\"1\"")
            };
        }
        Answer::file(asked, &served, "\"1\"")
    });
    let place = Place::new();
    place.download(&[server.url("/file")], &exactly(&bytes)).unwrap_err();
    assert_eq!(place.names(), [".file.partial"]);
    place.download(&[server.url("/file")], &exactly(&bytes)).unwrap();
    assert_eq!(server.asked().last().unwrap().header("range"), Some("bytes=70000-"));
    assert_eq!(std::fs::read(place.target()).unwrap(), bytes);
    assert_eq!(place.names(), ["file"]);
}

#[test]
fn starts_over_when_what_an_earlier_run_left_is_wrong() {
    let bytes = content();
    let served = bytes.clone();
    let server = FakeServer::start(move |asked, _| Answer::file(asked, &served, "\"1\""));
    let place = Place::new();
    std::fs::create_dir_all(place.target().parent().unwrap()).unwrap();
    for left in [vec![9; 1000], vec![9; 300_000], vec![9; 400_000]] {
        std::fs::write(place.target().with_file_name(".file.partial"), left).unwrap();
        place.download(&[server.url("/file")], &exactly(&bytes)).unwrap();
        assert_eq!(std::fs::read(place.target()).unwrap(), bytes);
        assert_eq!(place.names(), ["file"]);
    }
}

#[test]
fn concurrent_downloads_of_one_file_do_not_disturb_each_other() {
    let bytes = content();
    let served = bytes.clone();
    let server = FakeServer::start(move |asked, before| Answer {
        cut_after: (before % 3 == 0).then_some(100_000),
        ..Answer::file(asked, &served, "\"1\"")
    });
    let place = Place::new();
    let client = client();
    let urls = [server.url("/file")];
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                download(&client, &urls, &place.target(), &exactly(&bytes), &Silent, "file").unwrap();
                assert_eq!(std::fs::read(place.target()).unwrap(), bytes);
            });
        }
    });
    assert_eq!(place.names(), ["file"]);
}

#[test]
fn several_files_come_in_the_order_of_the_jobs() {
    let server = FakeServer::start(|asked, _| match asked.path() {
        "/missing" => Answer::new(404, ""),
        path => Answer::new(200, path.as_bytes()),
    });
    let place = Place::new();
    let job = |name: &str| Job {
        urls: vec![server.url(&format!("/{name}"))],
        destination: place.directory.path().join("blobs").join(name),
        expected: Expected::default(),
        label: name.to_owned(),
    };
    let names: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    let jobs: Vec<Job> = names.iter().map(|name| job(name)).collect();
    let done = download_all(&client(), &jobs, 4, &Silent).unwrap();
    let digests: Vec<Digest> = names.iter().map(|name| Digest::of(format!("/{name}").as_bytes())).collect();
    assert_eq!(done.into_iter().map(|file| file.digest).collect::<Vec<_>>(), digests);
    let Failed { job: place, error } = download_all(&client(), &[job("1"), job("missing")], 2, &Silent).unwrap_err();
    assert_eq!(place, 1);
    assert_eq!(error.status(), Some(404));
    assert!(error.to_string().contains("/missing answered 404; it is not there"), "{error}");
    assert_eq!(download_all(&client(), &[], 2, &Silent).unwrap(), []);
}

#[test]
fn credentials_stay_with_their_host_on_a_redirect() {
    let other = FakeServer::start(|asked, _| Answer::new(200, format!("{:?}", asked.header("authorization"))));
    let target = other.url("/there?signature=hunter2").to_string();
    let server = FakeServer::start(move |asked, _| match asked.path() {
        "/away" => Answer::new(307, "").header("Location", target.clone()),
        "/near" => Answer::new(301, "").header("Location", "/here"),
        "/loop" => Answer::new(302, "").header("Location", "/loop"),
        "/file" => Answer::new(302, "").header("Location", "file:///etc/passwd"),
        _ => Answer::new(200, format!("{:?}", asked.header("authorization"))),
    });
    let ask = |path: &str| {
        let mut request = Request::get(server.url(path)).header("x-token", "1");
        request.authorization = Some(Secret::new("Basic xyz"));
        get(&client(), &request, 1000, &Silent)
    };
    let away = ask("/away").unwrap();
    assert_eq!(away.bytes, b"None");
    assert_eq!(other.asked()[0].header("x-token"), None);
    assert!(away.url.ends_with("/there?…"), "{}", away.url);
    assert_eq!(ask("/near").unwrap().bytes, b"Some(\"Basic xyz\")");
    assert!(ask("/loop").unwrap_err().to_string().contains("too many redirects"));
    assert!(ask("/file").unwrap_err().to_string().contains("only http and https"));
}

#[test]
fn serves_files_of_this_machine() {
    let place = Place::new();
    let source = place.directory.path().join("source");
    std::fs::write(&source, content()).unwrap();
    let url = Url::from_file_path(&source).unwrap();
    place.download(std::slice::from_ref(&url), &exactly(&content())).unwrap();
    std::fs::remove_file(place.target()).unwrap();
    std::fs::write(place.target().with_file_name(".file.partial"), &content()[..1234]).unwrap();
    place.download(&[url], &exactly(&content())).unwrap();
    assert_eq!(std::fs::read(place.target()).unwrap(), content());
    let of = |path: &Path| place.download(&[Url::from_file_path(path).unwrap()], &Expected::default());
    assert_eq!(of(&place.directory.path().join("missing")).unwrap_err().status(), Some(404));
    assert_eq!(of(place.directory.path()).unwrap_err().status(), Some(403));
}

#[test]
fn failures_to_connect_name_the_cause() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ask = |text: &str| client().send(&Request::get(parse_url(text).unwrap())).unwrap_err();
    let refused = ask(&format!("http://user:hunter2@{closed}/x?token=hunter2"));
    assert!(matches!(refused, FetchError::Refused { .. }) && refused.is_transient(), "{refused:?}");
    assert_eq!(
        refused.to_string(),
        format!("http://{closed}/x?…: the connection was refused; check the port, and that the server is running")
    );
    let unknown = ask("http://no-such-host.invalid/");
    assert!(matches!(unknown, FetchError::UnknownHost { .. }) && !unknown.is_transient(), "{unknown:?}");
    let server = FakeServer::start(|_, _| Answer::new(200, ""));
    let plain = ask(&format!("https://{}/", server.host()));
    assert!(plain.to_string().contains("seems to speak plain HTTP"), "{plain:?}");
    assert!(parse_url("ftp://x/").unwrap_err().to_string().contains("scheme ftp is not known"));
    assert!(parse_url("x").is_err());
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let server = FakeServer::start(|_, _| Answer::new(200, "x"));
    let target = Path::new("/proc/none/file");
    let error = download(&client(), &[server.url("/")], target, &Expected::default(), &Silent, "x").unwrap_err();
    assert!(error.to_string().starts_with("cannot write /proc/none: "), "{error}");
}
