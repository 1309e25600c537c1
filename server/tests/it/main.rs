//! The server, from outside: one file a subject.

mod api;
mod remote_write;
mod replay;
mod site;
