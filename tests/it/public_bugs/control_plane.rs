//! Rules from a control plane that restarts, or that corrects what was refused.
