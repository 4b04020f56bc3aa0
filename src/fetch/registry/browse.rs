//! What a registry has: tags of a repository, repositories, and what refers to a manifest.
//!
//! Sources: OCI distribution-spec 1.1, "Content Discovery", "Listing Referrers"; docker's registry for `_catalog`.

use super::session::Session;
use super::{Access, Registry};
use crate::digest::Digest;
use crate::event::Observer;
use crate::fetch::error::{FetchError, shown};
use crate::fetch::http::{Request, Url};
use crate::fetch::retry::{Document, get};
use crate::oci::MAXIMUM_DOCUMENT;
use crate::oci::artifact::{entries, referrers_tag};
use crate::oci::manifest::{Descriptor, OCI_INDEX};
use crate::oci::reference::Reference;
use serde::Deserialize;

/// Pages that are read of one list.
const MOST_PAGES: usize = 1000;
/// Entries that are read of one list.
const MOST_ENTRIES: usize = 100_000;

#[derive(Deserialize)]
struct Tags {
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Catalog {
    repositories: Option<Vec<String>>,
}

impl Registry<'_> {
    /// The tags of a repository, in the registry's order.
    pub fn tags(&self, reference: &Reference, observer: &dyn Observer) -> Result<Vec<String>, FetchError> {
        let session = self.own_session(Access::Pull, reference, observer)?;
        let url = session.url("tags", "list")?;
        pages(&session, url, observer, &|document| {
            let tags: Tags = serde_json::from_slice(&document.bytes).map_err(|error| malformed(document, &error))?;
            Ok(tags.tags.unwrap_or_default())
        })
    }

    /// The repositories of a registry; few registries tell.
    pub fn repositories(&self, host: &str, observer: &dyn Observer) -> Result<Vec<String>, FetchError> {
        let reference = Reference { registry: host.to_owned(), repository: String::new(), tag: None, digest: None };
        let session = self.own_session(Access::Login, &reference, observer)?;
        let url = session.api("v2/_catalog")?;
        pages(&session, url, observer, &|document| {
            let catalog: Catalog =
                serde_json::from_slice(&document.bytes).map_err(|error| malformed(document, &error))?;
            Ok(catalog.repositories.unwrap_or_default())
        })
    }

    /// The manifests that name `subject`, of one type or of all.
    pub fn referrers(
        &self,
        reference: &Reference,
        subject: &Digest,
        artifact_type: Option<&str>,
        observer: &dyn Observer,
    ) -> Result<Vec<Descriptor>, FetchError> {
        let session = self.own_session(Access::Pull, reference, observer)?;
        let mut url = session.url("referrers", &subject.to_string())?;
        if let Some(kind) = artifact_type {
            url.query_pairs_mut().append_pair("artifactType", kind);
        }
        let found = pages(&session, url, observer, &|document| {
            let media_type = document.header("content-type");
            entries(&document.bytes, media_type).map_err(|error| malformed(document, &error))
        });
        let found = match found {
            // Spec: registries from before 1.1 do not know the address; clients then keep the list under a tag.
            Err(error) if matches!(error.status(), Some(400 | 404 | 405)) => kept_under_tag(&session, subject)?,
            other => other?,
        };
        // Spec: a registry may leave the choice to the client.
        let suits = |entry: &Descriptor| artifact_type.is_none_or(|kind| entry.artifact_type.as_deref() == Some(kind));
        Ok(found.into_iter().filter(suits).collect())
    }
}

fn kept_under_tag(session: &Session<'_>, subject: &Digest) -> Result<Vec<Descriptor>, FetchError> {
    match session.manifest(&referrers_tag(subject)) {
        Ok(document) => entries(&document.bytes, document.media_type.as_deref().or(Some(OCI_INDEX)))
            .map_err(|error| FetchError::Protocol { url: document.url, cause: error.to_string() }),
        Err(error) if error.status() == Some(404) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn malformed(document: &Document, error: &dyn std::fmt::Display) -> FetchError {
    FetchError::Protocol { url: document.url.clone(), cause: error.to_string().chars().take(200).collect() }
}

/// All pages of a list.
fn pages<T>(
    session: &Session<'_>,
    first: Url,
    observer: &dyn Observer,
    read: &dyn Fn(&Document) -> Result<Vec<T>, FetchError>,
) -> Result<Vec<T>, FetchError> {
    let mut all = Vec::new();
    let mut next = Some(first);
    for _ in 0..MOST_PAGES {
        let Some(url) = next.take() else { return Ok(all) };
        let document = get(session, &Request::get(url.clone()), MAXIMUM_DOCUMENT as u64, observer)?;
        all.extend(read(&document)?);
        if all.len() > MOST_ENTRIES {
            break;
        }
        next = document.header("link").and_then(|text| next_page(&url, text));
        // The login goes along, so that the next page must be on the same host.
        if let Some(other) = next.as_ref().filter(|next| !session.is_own_host(next)) {
            let cause = "the next page of a list must be on the same host";
            return Err(FetchError::Redirect { url: shown(&url), target: shown(other), cause });
        }
    }
    let url = shown(&session.api("v2/")?);
    Err(FetchError::Protocol { url, cause: format!("the list has no end, or more than {MOST_ENTRIES} entries") })
}

/// Spec: RFC 8288: `<ADDRESS>; rel="next"`.
fn next_page(url: &Url, link: &str) -> Option<Url> {
    link.split(',').find_map(|part| {
        let (address, parameters) = part.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = parameters.split(';').any(|parameter| {
            parameter
                .split_once('=')
                .is_some_and(|(name, value)| name.trim() == "rel" && value.trim_matches([' ', '"']) == "next")
        });
        is_next.then(|| url.join(address).ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Silent;
    use crate::fetch::auth::Credentials;
    use crate::fetch::fake_server::{Answer, FakeServer, client};
    use crate::fetch::registry::Configuration;

    fn with<T>(server: &FakeServer, work: impl FnOnce(&Registry<'_>, &Reference) -> T) -> T {
        let client = client();
        let registry = Registry::new(&client, Credentials::default(), Configuration::default(), true);
        work(&registry, &Reference::parse(&format!("{}/org/app:1", server.host())).unwrap())
    }

    #[test]
    fn lists_are_read_page_by_page_to_their_end() {
        let server = FakeServer::start(|asked, _| match asked.target.as_str() {
            "/v2/org/app/tags/list" => Answer::new(200, r#"{"tags":["1","2"]}"#).header(
                "Link",
                "</v2/org/app/tags/list?last=0>; rel=\"first\", </v2/org/app/tags/list?last=2>; rel=\"next\"",
            ),
            "/v2/org/app/tags/list?last=2" => Answer::new(200, r#"{"tags":["3"]}"#),
            "/v2/_catalog" => Answer::new(200, r#"{"repositories":["org/app"]}"#),
            _ => Answer::new(200, r#"{"tags":null}"#),
        });
        with(&server, |registry, reference| {
            assert_eq!(registry.tags(reference, &Silent).unwrap(), ["1", "2", "3"]);
            assert_eq!(registry.repositories(&reference.registry, &Silent).unwrap(), ["org/app"]);
        });
    }

    #[test]
    fn a_list_without_end_and_one_that_leads_elsewhere_are_refused() {
        let endless = FakeServer::start(|_, _| {
            Answer::new(200, r#"{"tags":["1"]}"#).header("Link", "</v2/org/app/tags/list>; rel=next")
        });
        let error = with(&endless, |registry, reference| registry.tags(reference, &Silent)).unwrap_err();
        assert!(error.to_string().contains("no end"), "{error}");
        let leading = FakeServer::start(|_, _| {
            Answer::new(200, r#"{"tags":["1"]}"#).header("Link", "<http://elsewhere.example/>; rel=next")
        });
        let error = with(&leading, |registry, reference| registry.tags(reference, &Silent)).unwrap_err();
        assert!(error.to_string().contains("must be on the same host"), "{error}");
    }

    #[test]
    fn referrers_come_from_the_registry_or_from_the_tag_and_are_chosen_by_type() {
        let subject = Digest::of(b"subject");
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{{"mediaType":"m","digest":"{0}","size":1,"artifactType":"a/b"}},
            {{"mediaType":"m","digest":"{0}","size":1,"artifactType":"c/d"}}]}}"#,
            Digest::of(b"x")
        );
        let tag = format!("/v2/org/app/manifests/{}", referrers_tag(&subject));
        for old in [false, true] {
            let (index, tag) = (index.clone(), tag.clone());
            let server = FakeServer::start(move |asked, _| match asked.path() {
                "/v2/" => Answer::new(200, ""),
                path if path.starts_with("/v2/org/app/referrers/") && !old => Answer::new(200, index.clone()),
                path if path == tag && old => Answer::new(200, index.clone()).header("Content-Type", OCI_INDEX),
                _ => Answer::new(404, ""),
            });
            with(&server, |registry, reference| {
                assert_eq!(registry.referrers(reference, &subject, None, &Silent).unwrap().len(), 2);
                assert_eq!(registry.referrers(reference, &subject, Some("c/d"), &Silent).unwrap().len(), 1);
                let other = Digest::of(b"other");
                assert_eq!(registry.referrers(reference, &other, Some("x/y"), &Silent).unwrap().len(), 0);
            });
        }
    }

    proptest::proptest! {
        #[test]
        fn no_link_panics(text in "[<>;,=a-z\"/ ]{0,60}") {
            let _ = next_page(&Url::parse("http://h/").unwrap(), &text);
        }
    }
}
