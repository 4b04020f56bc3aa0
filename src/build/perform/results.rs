//! Results of steps: taken from the store, and left there for later builds.

use super::{Performer, Work};
use crate::build::BuildError;
use crate::digest::Digest;
use crate::oci::config::ImageConfig;
use crate::pins::BasePin;
use crate::plan::{Action, Step};
use crate::store::{Contents, Held, StoreError};
use std::path::Path;

/// File beside a base's result that keeps the configuration of an OCI image.
const CONFIG: &str = "oci-config.json";

impl Performer<'_> {
    /// Takes the filesystem after `step` from the store: all layers of its chain.
    pub(super) fn recall(&mut self, step: &Step) -> Result<(), BuildError> {
        let Some(key) = step.key() else { return Ok(()) };
        if matches!(step.action, Action::Test { .. }) {
            self.engine.store.mark_used(&key.0);
            return Ok(());
        }
        let mut work = Work::default();
        for key in self.engine.store.chain(&key.0)? {
            let held = self.engine.store.recall(&key)?.ok_or_else(|| StoreError::Read {
                subject: format!("the stored result {key}"),
                cause: "it was removed while this build was planned; build again".to_owned(),
            })?;
            if let Some(bytes) = self.engine.store.attachment(&key, CONFIG) {
                work.config_object = Some(bytes);
            }
            work.filesystem.push(held)?;
            work.filesystem.chain.push(key);
            // A base is kept as one layer.
            if work.filesystem.layers.len() == 1 {
                if self.begins_with_oci(step.stage) {
                    work.config = work.config_object.as_deref().and_then(kept_config);
                }
                work.note_unchecked();
            }
        }
        self.stages[step.stage] = work;
        Ok(())
    }

    /// Whether the stage's base is an OCI image, whose configuration the skeleton needs.
    fn begins_with_oci(&self, stage: usize) -> bool {
        let is_oci = |step: &Step| {
            matches!(&step.action, Action::Base { pin: BasePin::Docker { .. } | BasePin::OciLayout { .. } })
        };
        self.plan.steps.iter().any(|step| step.stage == stage && is_oci(step))
    }

    /// Keeps the newest layer and everything below it that is not kept yet, so that the chain can be recalled.
    pub(super) fn remember(
        &mut self,
        step: &Step,
        held: Held,
        root: &Path,
        config: Option<&[u8]>,
    ) -> Result<(), BuildError> {
        self.engine.check_bases()?;
        let (Some(key), Some(document)) = (step.key(), step.document()) else { return self.push(step, held) };
        let chain = self.keep_below(step)?;
        let Some(chain) = chain else { return self.push(step, held) };
        let attachments: Vec<(&str, &[u8])> = config.iter().map(|bytes| (CONFIG, *bytes)).collect();
        let kept = self.engine.store.remember(&key.0, &document.write(), &held.layer, root, &chain, &attachments)?;
        let filesystem = &mut self.stages[step.stage].filesystem;
        filesystem.push(kept)?;
        filesystem.chain.push(key.0.clone());
        Ok(())
    }

    /// Layers between the last kept one and the top are kept under keys that follow from the step's own.
    fn keep_below(&mut self, step: &Step) -> Result<Option<Vec<Digest>>, BuildError> {
        let Some(key) = step.key() else { return Ok(None) };
        let store = self.engine.store;
        let filesystem = &mut self.stages[step.stage].filesystem;
        for number in filesystem.chain.len()..filesystem.layers.len() {
            let Contents::Directory(root) = filesystem.layers[number].contents.clone() else { return Ok(None) };
            let document = format!("action part\nnumber {number}\nof {}\n", key.0);
            let own = Digest::of(document.as_bytes());
            let kept = store.remember(&own, &document, &filesystem.layers[number].layer, &root, &[], &[])?;
            filesystem.layers[number] = kept;
            filesystem.chain.push(own);
        }
        Ok(Some(filesystem.chain.clone()))
    }
}

/// The configuration of an image from its member `config`, which is what is kept of it.
fn kept_config(bytes: &[u8]) -> Option<ImageConfig> {
    let inner: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let whole = serde_json::json!({
        "architecture": "", "os": "linux", "config": inner, "rootfs": {"type": "layers", "diff_ids": []},
    });
    crate::oci::config::parse(whole.to_string().as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_configuration_says_what_the_image_said() {
        let bytes = br#"{"Env":["A=b"],"Entrypoint":["/x"],"Cmd":["y"],"Labels":{"k":"v"}}"#;
        let config = kept_config(bytes).unwrap();
        assert_eq!(
            (config.env, config.entrypoint, config.cmd),
            (vec!["A=b".to_owned()], vec!["/x".to_owned()], vec!["y".to_owned()])
        );
        assert_eq!(config.labels["k"], "v");
        assert!(kept_config(b"no JSON").is_none());
    }
}
