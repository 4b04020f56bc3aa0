//! Signing and verifying images, and keys, through the program; beside gpg and openssl.

mod certificates;
mod desk;
mod images;
mod keys;
mod secrets;
mod tampering;
