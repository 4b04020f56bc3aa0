//! What the second build does.

use super::image::open;
use super::place::Place;
use super::walk::BASE;

fn definition(post: &str, environment: &str, comment: &str) -> String {
    format!(
        "{BASE}{comment}\n%environment\n  export A={environment}\n%post\n  echo ran-post {post}\n  echo {post} > /post\n"
    )
}

#[test]
fn a_second_build_runs_nothing() {
    let place = Place::new();
    let first = place.build("x.sif", &definition("one", "1", "# c"), &[]);
    assert!(first.lines().any(|line| line == "ran-post one"), "{first}");
    let second = place.build("y.sif", &definition("one", "1", "# c"), &[]);
    assert!(second.contains("post: reused"), "{second}");
    assert!(!second.lines().any(|line| line == "ran-post one"), "{second}");
    assert_eq!(open(&place.file("y.sif")).text("post"), "one\n");
}

#[test]
fn a_changed_environment_or_comment_reuses_post() {
    let place = Place::new();
    place.build("x.sif", &definition("one", "1", "# c"), &[]);
    let text = place.build("y.sif", &definition("one", "2", "# another comment"), &[]);
    assert!(text.contains("post: reused"), "{text}");
    let environment = place.succeed(&["inspect", "--environment", "y.sif"]);
    assert!(environment.contains("export A=2"), "{environment}");
    assert!(place.succeed(&["inspect", "--deffile", "y.sif"]).contains("# another comment"));
}

#[test]
fn a_changed_post_or_host_file_runs_post_again() {
    let place = Place::new();
    place.write("host.txt", "old");
    let with_file = |post| definition(post, "1", "# c") + "%files\n  host.txt /opt/host.txt\n";
    place.build("x.sif", &with_file("one"), &[]);
    let text = place.build("y.sif", &with_file("two"), &[]);
    assert!(text.lines().any(|line| line == "ran-post two"), "{text}");
    assert_eq!(open(&place.file("y.sif")).text("post"), "two\n");
    place.write("host.txt", "new");
    let text = place.build("z.sif", &with_file("two"), &[]);
    assert!(text.lines().any(|line| line == "ran-post two"), "{text}");
    assert_eq!(open(&place.file("z.sif")).text("opt/host.txt"), "new");
}

#[test]
fn a_changed_base_and_no_reuse_run_post_again() {
    let place = Place::new();
    place.build("x.sif", &definition("one", "1", "# c"), &[]);
    let text = place.build("y.sif", &definition("one", "1", "# c"), &["--no-reuse"]);
    assert!(text.lines().any(|line| line == "ran-post one"), "{text}");
    let mut layers = super::base::layers();
    layers.push(super::base::archive(&[super::base::file("newer", 0o644, b"newer")]));
    std::fs::remove_dir_all(place.file("layout")).unwrap();
    super::base::layout(&place.file("layout"), &layers);
    super::base::layout_archive(&place.file("base.tar"), &place.file("layout"));
    let text = place.build("z.sif", &definition("one", "1", "# c"), &[]);
    assert!(text.lines().any(|line| line == "ran-post one"), "{text}");
    assert_eq!(open(&place.file("z.sif")).text("newer"), "newer");
}

#[test]
fn another_definition_on_the_same_base_keeps_the_images_configuration() {
    let place = Place::new();
    place.build("x.sif", &format!("{BASE}%post\n  true\n"), &[]);
    let text = place.build("y.sif", &format!("{BASE}%post\n  echo other\n"), &[]);
    assert!(text.contains("base: reused"), "{text}");
    for file in ["env/10-docker2singularity.sh", "runscript", "labels.json"] {
        let path = format!(".singularity.d/{file}");
        let (first, second) = (open(&place.file("x.sif")).text(&path), open(&place.file("y.sif")).text(&path));
        let undated = |text: &str| {
            text.lines()
                .filter(|line| !line.contains("date") && !line.contains("created"))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(undated(&first), undated(&second), "{file}");
    }
}

/// Kept blocks in the store.
fn blocks(place: &Place) -> Vec<std::path::PathBuf> {
    let modes = std::fs::read_dir(place.store().join("1/steps")).unwrap().flatten();
    let steps = modes.flat_map(|mode| std::fs::read_dir(mode.path()).unwrap().flatten());
    let files = steps.flat_map(|step| std::fs::read_dir(step.path()).unwrap().flatten());
    files.map(|file| file.path()).filter(|path| path.to_string_lossy().contains("/blocks-")).collect()
}

/// Puts a layer with files of many sizes on the base, some of which a script may replace.
fn enlarge_base(place: &Place) {
    let mut number = 1u32;
    let mut body = |size: usize| -> Vec<u8> {
        let mut next = || {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (number >> 24) as u8 & 0x3f
        };
        (0..size).map(|_| next()).collect()
    };
    let mut members = vec![super::base::directory("data", 0o755)];
    for count in 0..200 {
        members.push(super::base::file(&format!("data/{count}"), 0o644, &body(count * 397)));
    }
    members.push(super::base::file("data/large", 0o644, &body(3 << 20)));
    let mut layers = super::base::layers();
    layers.push(super::base::archive(&members));
    std::fs::remove_dir_all(place.file("layout")).unwrap();
    super::base::layout(&place.file("layout"), &layers);
    super::base::layout_archive(&place.file("base.tar"), &place.file("layout"));
}

#[test]
fn blocks_are_made_while_post_runs_and_change_no_byte() {
    let post = "rm /data/7 /data/150; echo other > /data/33; sleep 4";
    let text = |post: &str| format!("{BASE}%post\n  {post}\n");
    let images: Vec<Vec<u8>> = [&["--reproducible"][..], &["--reproducible", "--no-background"]]
        .iter()
        .map(|flags| {
            let place = Place::new();
            enlarge_base(&place);
            place.bytes("x.sif", &text(post), flags)
        })
        .collect();
    assert!(images[0] == images[1], "blocks made in the background give another image");

    let made = |flags: &[&str]| {
        let place = Place::new();
        enlarge_base(&place);
        place.write("x.def", text("sleep 4; exit 3"));
        let outcome = place.run(&[&["build"], flags, &["x.sif", "x.def"]].concat());
        assert_ne!(outcome.code, Some(0), "{}", outcome.text);
        blocks(&place).len()
    };
    assert_eq!((made(&[]), made(&["--no-background"])), (1, 0));
}

#[test]
fn blocks_that_are_not_finished_leave_nothing() {
    let place = Place::new();
    enlarge_base(&place);
    place.write("x.def", format!("{BASE}%post\n  exit 3\n"));
    let outcome = place.run(&["build", "--compression", "xz", "x.sif", "x.def"]);
    assert_ne!(outcome.code, Some(0), "{}", outcome.text);
    let modes = std::fs::read_dir(place.store().join("1/steps")).unwrap().flatten();
    let steps = modes.flat_map(|mode| std::fs::read_dir(mode.path()).unwrap().flatten());
    let files = steps.flat_map(|step| std::fs::read_dir(step.path()).unwrap().flatten());
    let drafts: Vec<_> =
        files.map(|file| file.path()).filter(|path| path.to_string_lossy().contains("/.draft-")).collect();
    assert!(drafts.is_empty(), "{drafts:?}");
}

#[test]
fn kept_blocks_change_no_byte() {
    let place = Place::new();
    let text = definition("one", "1", "# c");
    let flags = ["--reproducible"];
    let first = place.bytes("x.sif", &text, &flags);
    let kept = blocks(&place);
    assert!(kept.len() >= 2, "of the base and of %post: {kept:?}");
    assert!(place.bytes("y.sif", &text, &flags) == first, "copied blocks give another image");
    // Damaged ones are made anew.
    for path in &kept {
        let length = std::fs::metadata(path).unwrap().len();
        std::fs::File::options().write(true).open(path).unwrap().set_len(length - 1).unwrap();
    }
    assert!(place.bytes("z.sif", &text, &flags) == first, "blocks made anew give another image");
    for path in &kept {
        std::fs::remove_file(path).unwrap();
    }
    assert!(place.bytes("w.sif", &text, &flags) == first, "an image without kept blocks is another");
    assert_eq!(blocks(&place).len(), kept.len());
}

#[test]
fn a_test_runs_again_when_the_environment_that_it_sees_changes() {
    let place = Place::new();
    place.write("x.def", format!("{BASE}%test\n  echo \"saw $SEEN\"\n"));
    let build = |environment: &[(&str, &str)]| {
        let mut command = place.command(&[], &["build", "--force", "x.sif", "x.def"]);
        command.envs(environment.iter().copied());
        let outcome = place.outcome(command);
        assert_eq!(outcome.code, Some(0), "{}", outcome.text);
        outcome.text
    };
    assert!(build(&[("SEEN", "secret-one")]).contains("saw secret-one"));
    assert!(build(&[("SEEN", "secret-one"), ("SHLVL", "7"), ("TERM", "dumb")]).contains("test: reused"));
    assert!(build(&[("SEEN", "two")]).contains("saw two"));
    let found = std::process::Command::new("grep").args(["-r", "secret-one"]).arg(place.store()).output().unwrap();
    assert!(found.stdout.is_empty(), "no value is kept: {}", String::from_utf8_lossy(&found.stdout));
}

#[test]
fn builds_at_the_same_time_share_one_store() {
    let place = Place::new();
    let builds: Vec<_> = (0..4)
        .map(|number| {
            place.write(&format!("{number}.def"), definition("same", "1", "# c"));
            let mut command = place.command(&[], &["build", &format!("{number}.sif"), &format!("{number}.def")]);
            command.env("SOURCE_DATE_EPOCH", "1700000000");
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for build in builds {
        let output = build.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let root = |number: u8| open(&place.file(&format!("{number}.sif"))).text("post");
    assert!((0..4).all(|number| root(number) == "same\n"));
    let mut command = place.command(&[], &["build", "again.sif", "0.def"]);
    command.env("SOURCE_DATE_EPOCH", "1700000000");
    let again = place.outcome(command).text;
    assert!(again.contains("post: reused"), "{again}");
    // Nothing is left of the builds that came second.
    let modes: Vec<_> = std::fs::read_dir(place.store().join("1/steps")).unwrap().flatten().collect();
    for mode in modes {
        let drafts = std::fs::read_dir(mode.path()).unwrap().flatten();
        let drafts: Vec<_> = drafts.filter(|entry| entry.file_name().to_string_lossy().starts_with(".draft")).collect();
        assert!(drafts.is_empty(), "{drafts:?}");
    }
    assert_eq!(std::fs::read_dir(place.store().join("1/work")).unwrap().count(), 0);
}

#[test]
fn a_limit_takes_what_earlier_builds_used_and_nothing_of_the_build_itself() {
    let place = Place::new();
    let (older, newer) = (definition("one", "1", "# c"), definition("two", "1", "# c"));
    assert_eq!(place.succeed(&["cache", "limit", "1K"]), "1.0 KiB (set for this cache)\n");
    place.build("x.sif", &older, &[]);
    let text = place.build("y.sif", &older, &["--force"]);
    assert!(text.contains("post: reused") && !text.contains("over its limit"), "{text}");
    let mut layers = super::base::layers();
    layers.push(super::base::archive(&[super::base::file("newer", 0o644, b"newer")]));
    std::fs::rename(place.file("base.tar"), place.file("older.tar")).unwrap();
    std::fs::remove_dir_all(place.file("layout")).unwrap();
    super::base::layout(&place.file("layout"), &layers);
    super::base::layout_archive(&place.file("base.tar"), &place.file("layout"));
    // The environment goes before what is remembered.
    place.write("x.def", &newer);
    let mut command = place.command(&[], &["build", "z.sif", "x.def"]);
    command.env("SIFBUILD_CACHE_LIMIT", "none");
    let text = place.outcome(command).text;
    assert!(text.contains("Build complete") && !text.contains("over its limit"), "{text}");
    // What was used in the same second is not told from what this build uses.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let text = place.build("z.sif", &definition("three", "1", "# c"), &["--force"]);
    assert!(text.contains("base: reused") && text.contains("over its limit of 1.0 KiB"), "{text}");
    let text = place.build("z.sif", &definition("three", "1", "# c"), &["--force"]);
    assert!(text.contains("post: reused"), "its own results stay: {text}");
    std::fs::rename(place.file("older.tar"), place.file("base.tar")).unwrap();
    let text = place.build("x.sif", &older, &["--force"]);
    assert!(text.lines().any(|line| line == "ran-post one"), "what is older was taken: {text}");
    let listed = place.succeed(&["cache"]);
    assert!(listed.contains("1.0 KiB  may be kept (set for this cache)"), "{listed}");
    let outcome = place.run(&["cache", "limit", "much"]);
    assert!(outcome.code != Some(0) && outcome.text.contains("\"much\" is no size"), "{}", outcome.text);
}

#[test]
fn little_memory_means_fewer_threads_and_the_same_bytes() {
    let place = Place::new();
    enlarge_base(&place);
    let text = format!("{BASE}%post\n  true\n");
    let flags = ["--jobs", "16", "--no-reuse"];
    let wide = place.bytes("x.sif", &text, &flags);
    let little = [&flags[..], &["--memory", "80M"]].concat();
    assert!(place.bytes("y.sif", &text, &little) == wide, "the threads change the image");
    place.write("y.def", &text);
    let told = place.succeed(&[&["-v", "build"], &little[..], &["z.sif", "y.def"]].concat());
    assert!(told.contains("of 16 threads: --memory gives 80.0 MiB"), "{told}");
    let refused = place.run(&["build", "--memory", "lots", "w.sif", "y.def"]);
    assert!(refused.text.contains("--memory lots"), "{}", refused.text);
}
