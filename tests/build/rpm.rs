//! `Bootstrap: dnf` and `solve`, from a small mirror that is made here, good and spoiled.

use super::image::open;
use super::place::{Outcome, Place, RANGE_USER, SINGLE_USER};
use super::rpm_mirror::Mirror;
use serde_json::Value;
use std::fs;
use std::path::Path;

fn definition(mirror: &Mirror, include: &str, post: &str) -> String {
    format!("Bootstrap: dnf\nMirrorURL: {}\nInclude: {include}\n\n%post\n{post}\n", mirror.url())
}

fn solve(mirror: &Mirror, arguments: &[&str]) -> Outcome {
    let (repository, key) = (format!("os={}", mirror.url()), mirror.key());
    Place::new().run(&[&["-q", "solve", "--repo", &repository, "--keyring", &key], arguments].concat())
}

/// `name reason` of each package.
fn solved(mirror: &Mirror, arguments: &[&str]) -> Vec<String> {
    let outcome = solve(mirror, &[&["--json"], arguments].concat());
    assert_eq!(outcome.code, Some(0), "{}", outcome.text);
    let answer: Value = serde_json::from_str(&outcome.text).unwrap();
    let of = |package: &Value, field: &str| package[field].as_str().unwrap().to_owned();
    let install = answer["install"].as_array().unwrap();
    assert!(install.iter().all(|package| package["repo"] == "os"));
    install
        .iter()
        .map(|package| format!("{} {}", of(package, "nevra").split("-1-1.").next().unwrap(), of(package, "reason")))
        .collect()
}

#[test]
fn solve_shows_what_would_be_installed_and_why() {
    let mirror = Mirror::good();
    assert_eq!(
        solved(&mirror, &["demo"]),
        ["demo user", "demo-doc weak", "filesystem dependency", "runtime dependency", "shell dependency"]
    );
    assert!(!solved(&mirror, &["--no-weak", "demo"]).contains(&"demo-doc weak".to_owned()));
    assert_eq!(solved(&mirror, &["old", "choosy"]).len(), 2);
    let text = solve(&mirror, &["choosy"]).text;
    assert!(text.contains("choosy-1-1.noarch") && text.contains("1 packages"), "{text}");
}

#[test]
fn solve_says_why_there_is_no_solution() {
    let mirror = Mirror::good();
    let error = |arguments: &[&str]| {
        let outcome = solve(&mirror, arguments);
        assert_eq!(outcome.code, Some(4), "{}", outcome.text);
        outcome.text
    };
    assert!(error(&["broken"]).contains("nothing provides no-such-thing >= 3, needed by broken-1-1.noarch"));
    assert!(error(&["dmeo"]).contains("near names: demo"));
    assert!(error(&["--module", "nodejs:20", "demo"]).contains("there is no module nodejs"));
}

#[test]
fn dead_mirrors_are_passed_over() {
    let mirror = Mirror::copy();
    let list = mirror.path("mirrorlist");
    fs::write(&list, format!("# mirrors\nfile:///nowhere/os/\n{}\n", mirror.url())).unwrap();
    let repomd = fs::read(mirror.path("os/repodata/repomd.xml")).unwrap();
    let digest = sifbuild::digest::Digest::of(&repomd);
    let metalink = |digest: &str| {
        format!(
            "<metalink><files><file><verification><hash type='sha256'>{digest}</hash></verification><resources>\
             <url preference='9'>file:///nowhere/os/repodata/repomd.xml</url><url preference='1'>{}repodata/repomd.xml</url>\
             </resources></file></files></metalink>",
            mirror.url()
        )
    };
    fs::write(mirror.path("metalink"), metalink(digest.hex())).unwrap();
    fs::write(mirror.path("metalink-of-another"), metalink(&"0".repeat(64))).unwrap();
    let ask = |name: &str| {
        let repository = format!("os=file://{}", mirror.path(name).display());
        Place::new().run(&["-q", "solve", "--repo", &repository, "--keyring", &mirror.key(), "choosy"])
    };
    for name in ["mirrorlist", "metalink"] {
        assert_eq!(ask(name).code, Some(0), "{}", ask(name).text);
    }
    let refused = ask("metalink-of-another");
    assert_eq!(refused.code, Some(4));
    assert!(refused.text.contains("none of its checksums fits"), "{}", refused.text);
}

#[test]
fn each_spoiled_mirror_is_refused_by_its_own_words() {
    let refusal = |spoil: &dyn Fn(&Mirror), flags: &[&str]| {
        let mirror = Mirror::copy();
        spoil(&mirror);
        let place = Place::new();
        let key = mirror.key();
        place.fail("x.sif", &definition(&mirror, "choosy", "  true"), &[&["--keyring", &key], flags].concat()).text
    };
    let flip = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(path, bytes).unwrap();
    };
    let metadata = |mirror: &Mirror, kind: &str| {
        let entries = fs::read_dir(mirror.path("os/repodata")).unwrap().flatten().map(|entry| entry.path());
        entries.into_iter().find(|path| path.to_str().unwrap().contains(kind)).unwrap()
    };
    let edit = |mirror: &Mirror, from: &str, to: &str| {
        let path = mirror.path("os/repodata/repomd.xml");
        fs::write(&path, fs::read_to_string(&path).unwrap().replace(from, to)).unwrap();
    };
    let text = refusal(&|mirror| edit(mirror, "<revision>1", "<revision>2"), &[]);
    assert!(text.contains("repomd.xml is not trusted") && text.contains("does not fit the text"), "{text}");
    let text = refusal(&|mirror| flip(&metadata(mirror, "primary.xml")), &[]);
    assert!(text.contains("is not the file that repomd.xml lists: its checksum"), "{text}");
    let text = refusal(&|mirror| flip(&mirror.package("choosy")), &[]);
    assert!(text.contains("was expected: the file on the server is another one or damaged"), "{text}");
    let text = refusal(
        &|mirror| {
            flip(&mirror.package("choosy"));
            mirror.index();
        },
        &[],
    );
    assert!(text.contains("choosy-1-1.noarch") && text.contains("its payload is damaged"), "{text}");
    let text = refusal(
        &|mirror| {
            let package = mirror.package("choosy");
            let done = std::process::Command::new("rpmsign").arg("--delsign").arg(package).status().unwrap();
            assert!(done.success());
            mirror.index();
        },
        &[],
    );
    assert!(text.contains("choosy-1-1.noarch from the repository base is refused: it is not signed"), "{text}");
    let other = Mirror::good();
    let key = super::mirror::Key::new();
    let path = other.path("other.gpg");
    fs::write(&path, key.armored()).unwrap();
    let place = Place::new();
    let text =
        place.fail("x.sif", &definition(&other, "choosy", "  true"), &["--keyring", path.to_str().unwrap()]).text;
    assert!(text.contains("not in the keyring"), "{text}");
    let text = place.fail("x.sif", &definition(&other, "choosy", "  true"), &[]).text;
    assert!(text.contains("--keyring FILE"), "{text}");
}

/// What the base must be, said by the image's own rpm.
const JUDGE: &str = "  set -e\n  rpm -Va --nomtime | while read -r line; do case $line in *' /proc'|*' /sys') ;; *) echo \"CHANGED $line\"; exit 1;; esac; done\n  \
    test \"$(stat -c '%a %U %G' /usr/share/demo/tool)\" = '2755 root mail'\n  test \"$(stat -c %h /usr/share/demo/data)\" = 2\n  \
    test -s /usr/demo-pre\n  test \"$(cat /usr/demo-lua)\" = lua\n  rpm -q demo demo-doc test-release\n  rpm -qa 'gpg-pubkey*'\n  \
    test ! -e /.packages\n  test ! -e /.final";

#[test]
fn the_distributions_own_rpm_installs_the_base_and_each_user_gets_the_same_bytes() {
    let mirror = Mirror::good();
    let mut images: Vec<(String, Vec<u8>)> = Vec::new();
    for place in [Some(Place::new()), Place::of_user(RANGE_USER), Place::of_user(SINGLE_USER)].into_iter().flatten() {
        let who = place.user().map_or("self".to_owned(), |user| user.name.clone());
        let key = mirror.key();
        let flags = ["--keyring", &key, "--reproducible"];
        let text = place.build("x.sif", &definition(&mirror, "demo rpm findutils", JUDGE), &flags);
        assert!(text.contains("Installing 9 packages"), "{who}: {text}");
        assert!(text.contains("gpg-pubkey-"), "{who}: {text}");
        images.push((who, fs::read(place.file("x.sif")).unwrap()));
        let again = place.build(
            "x.sif",
            &definition(&mirror, "demo rpm findutils", "  true"),
            &[&["--force"], &flags[..]].concat(),
        );
        assert!(!again.contains("Installing"), "the same base is taken from the store: {again}");
    }
    let (first, rest) = images.split_first().unwrap();
    for (who, bytes) in rest {
        assert!(*bytes == first.1, "{who} and {} have different images", first.0);
    }
}

#[test]
fn dnf_knows_what_was_asked_for_and_what_came_for_others() {
    let mirror = Mirror::good();
    let (place, key) = (Place::new(), mirror.key());
    place.build("x.sif", &definition(&mirror, "demo dnf", "  true"), &["--keyring", &key]);
    place.write("history.sqlite", open(&place.file("x.sif")).bytes("var/lib/dnf/history.sqlite"));
    let history = rusqlite::Connection::open(place.file("history.sqlite")).unwrap();
    let query =
        "SELECT name || ' ' || reason FROM rpm NATURAL JOIN trans_item WHERE state = 1 AND action = 1 ORDER BY 1";
    let mut statement = history.prepare(query).unwrap();
    let found: Vec<String> = statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(
        found,
        ["coreutils 2", "demo 2", "demo-doc 1", "dnf 2", "filesystem 1", "runtime 1", "shell 1", "test-release 2"]
    );
    let cookie = "SELECT length(rpmdb_version_end) FROM trans";
    assert_eq!(history.query_row(cookie, [], |row| row.get::<_, i64>(0)), Ok(64), "rpm's database was read");
}

#[test]
fn another_user_home_day_and_number_of_threads_give_the_same_bytes_after_an_installation_in_post() {
    let mirror = Mirror::good();
    let key = mirror.key();
    let packages = format!("{}:/mnt:ro", mirror.path("os/Packages").display());
    let post = "  rpm --install --nosignature /mnt/choosy-1-1.noarch.rpm\n  rpm -q choosy\n  touch /made\n  \
        rpm --eval '%{lua: print(os.date(\"year %Y\"))}'";
    let definition = definition(&mirror, "demo rpm dnf findutils", post);
    let mut images: Vec<(String, Vec<u8>)> = Vec::new();
    let places = [Some(Place::new()), Some(Place::new()), Place::of_user(RANGE_USER), Place::of_user(SINGLE_USER)];
    for (number, place) in places.into_iter().flatten().enumerate() {
        place.write("x.def", &definition);
        let threads = ["-j1", "-j2"][number % 2];
        let flags = ["build", "--reproducible", "--keyring", &key, threads, "-B", &packages, "x.sif", "x.def"];
        let mut command = place.command(&[], &flags);
        command.env("USER", format!("user{number}"));
        let shifted = Place::shift_days(&mut command, 400 * number);
        let outcome = place.outcome(command);
        assert_eq!(outcome.code, Some(0), "{}", outcome.text);
        let year = |text: &str| text.lines().find(|line| line.starts_with("year ")).map(str::to_owned);
        let seen = images.iter().any(|(text, _)| year(text) == year(&outcome.text));
        assert!(!shifted || !seen, "the clock of %post is another: {}", outcome.text);
        images.push((outcome.text, fs::read(place.file("x.sif")).unwrap()));
    }
    let (first, rest) = images.split_first().unwrap();
    for (number, (text, bytes)) in rest.iter().enumerate() {
        assert!(*bytes == first.1, "image {number} is another: {text}");
    }
}

#[test]
fn checks_can_be_turned_off_by_a_flag_that_is_told() {
    let mirror = Mirror::copy();
    let done = std::process::Command::new("rpmsign").arg("--delsign").arg(mirror.package("choosy")).status().unwrap();
    assert!(done.success());
    mirror.index();
    let place = Place::new();
    let text = place.build("x.sif", &definition(&mirror, "choosy rpm", "  rpm -q choosy"), &["--no-check-signatures"]);
    assert!(text.contains("signatures of repositories and packages are not checked"), "{text}");
    assert!(text.contains("choosy-1-1"), "{text}");
    let labels = place.succeed(&["inspect", "--labels", "x.sif"]);
    assert!(labels.contains("org.sifbuild.unchecked: --no-check-signatures"), "{labels}");
    place.succeed(&["build", "y.sif", "x.sif"]);
    assert!(
        place.succeed(&["inspect", "--labels", "y.sif"]).contains("org.sifbuild.unchecked"),
        "and in what is made of it"
    );
}

#[test]
fn a_lock_keeps_the_base_as_it_was_though_the_mirror_moves_on() {
    let mirror = Mirror::copy();
    let (place, key) = (Place::new(), mirror.key());
    let keyring = ["--keyring", &key];
    place.write("x.def", definition(&mirror, "choosy rpm", "  rpm -q choosy"));
    let told = place.succeed(&[&["lock"], &keyring[..], &["x.def"]].concat());
    assert!(told.contains("x.def.lock has "), "{told}");
    fs::copy(place.file("x.def.lock"), place.file("before.lock")).unwrap();
    let build = |name: &str| place.succeed(&[&["build", "--no-reuse"], &keyring[..], &[name, "x.def"]].concat());
    assert!(build("one.sif").contains("choosy-1-1.noarch"));
    fs::remove_file(mirror.package("choosy")).unwrap();
    mirror.build("choosy", "Version: 2\nRelease: 1\nBuildArch: noarch\n%description\nx\n%files\n");
    mirror.index();
    // What is in the store is not asked for.
    assert!(build("two.sif").contains("choosy-1-1.noarch"));
    let empty = place.file("empty");
    let elsewhere = ["--cache-dir", empty.to_str().unwrap()];
    let gone = place.run(&[&["build"], &keyring[..], &elsewhere, &["three.sif", "x.def"]].concat());
    assert_eq!(gone.code, Some(4));
    assert!(gone.text.contains("choosy-1-1.noarch.rpm answered 404"), "{}", gone.text);
    assert!(gone.text.contains("`sifbuild lock x.def --update choosy`"), "{}", gone.text);
    let update = place.succeed(&[&["lock", "--update"], &keyring[..], &["x.def"]].concat());
    assert!(update.contains("~ choosy.noarch 1-1 -> 2-1"), "{update}");
    assert_eq!(place.succeed(&["lock", "--diff", "before.lock", "x.def.lock"]).trim(), "~ choosy.noarch 1-1 -> 2-1");
    assert!(build("four.sif").contains("choosy-2-1.noarch"));
    place.write("x.def", definition(&mirror, "choosy rpm old", "  true"));
    let stale = place.run(&[&["build"], &keyring[..], &["five.sif", "x.def"]].concat());
    assert!(stale.text.contains("run `sifbuild lock`"), "{}", stale.text);
    assert_eq!(stale.code, Some(4));
}
