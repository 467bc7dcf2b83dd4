//! The broker: grants, doors and the life of a run; configuration and the home folder.
