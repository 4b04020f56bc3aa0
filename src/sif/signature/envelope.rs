//! DSSE: one line of JSON that holds what is signed and signatures of bare keys over it.
//!
//! Spec: signed is `DSSEv1 <length> <type> <length> <payload>`; <https://github.com/secure-systems-lab/dsse>, protocol version 1.

use super::digest::Algorithm;
use super::key::{KeyError, PrivateKey, PublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::{Deserialize, Serialize};

pub const PAYLOAD_TYPE: &str = "application/vnd.sylabs.sif-metadata+json";
/// Signatures of one envelope that are looked at.
const MAXIMUM_SIGNATURES: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    #[error("its base64 cannot be read")]
    Base64,
    #[error("it holds more than {MAXIMUM_SIGNATURES} signatures")]
    TooMany,
    #[error("none of its signatures is of a given key")]
    NoneGood,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Envelope {
    #[serde(rename = "payloadType")]
    payload_type: String,
    payload: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct EnvelopeSignature {
    #[serde(default)]
    keyid: String,
    sig: String,
}

impl Envelope {
    /// `None` for what is no envelope, or one of another kind of payload.
    pub fn parse(bytes: &[u8]) -> Option<Envelope> {
        serde_json::from_slice(bytes).ok().filter(|envelope: &Envelope| envelope.payload_type == PAYLOAD_TYPE)
    }

    /// The payload, and which of the keys have signed it; one at least has.
    pub fn verify<'a>(
        &self,
        keys: &'a [PublicKey],
        hash: Algorithm,
    ) -> Result<(Vec<u8>, Vec<&'a PublicKey>), EnvelopeError> {
        if self.signatures.len() > MAXIMUM_SIGNATURES {
            return Err(EnvelopeError::TooMany);
        }
        let payload = decode(&self.payload)?;
        let signed = authenticated(&self.payload_type, &payload);
        let signatures = self.signatures.iter().map(|part| decode(&part.sig)).collect::<Result<Vec<_>, _>>()?;
        let signs = |key: &PublicKey| signatures.iter().any(|signature| key.verify(&signed, hash, signature));
        let signers: Vec<&PublicKey> = keys.iter().filter(|key| signs(key)).collect();
        if signers.is_empty() { Err(EnvelopeError::NoneGood) } else { Ok((payload, signers)) }
    }

    pub fn sign(payload: &[u8], key: &PrivateKey) -> Result<Envelope, KeyError> {
        let signature = key.sign(&authenticated(PAYLOAD_TYPE, payload))?;
        let signature = EnvelopeSignature { keyid: key.public().id().to_owned(), sig: STANDARD.encode(signature) };
        let payload = STANDARD.encode(payload);
        Ok(Envelope { payload_type: PAYLOAD_TYPE.to_owned(), payload, signatures: vec![signature] })
    }

    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("text has a JSON form")
    }
}

fn authenticated(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

/// Spec: either alphabet is accepted.
fn decode(text: &str) -> Result<Vec<u8>, EnvelopeError> {
    STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).map_err(|_| EnvelopeError::Base64)
}
