//! What images come in. Every module lists a place as a [`Listing`](super::listing::Listing), or says that the place is something else.
