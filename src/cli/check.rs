#[derive(clap::Args)]
pub(super) struct CheckArgs {}
pub(super) fn run(_: &CheckArgs) -> anyhow::Result<std::process::ExitCode> {
    todo!()
}
