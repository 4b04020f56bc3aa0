//! The program itself with the real `docker-registry`: push and pull, logins, what is attached, several images under one tag.

mod exchange;
mod library;
mod login;
mod names;
mod peer;
mod place;
mod server;
