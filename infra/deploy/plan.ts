/** What a database binding of `wrangler.toml` says, as far as it matters here. */
interface DatabaseBinding {
  binding: string
  database_name?: string | undefined
  database_id?: string | undefined
}

/** The id that stands in the repository: of no database. */
const PLACEHOLDER = /^[0-]*$/

/**
 * What Wrangler has to do, in order: the schema goes before the Worker that needs it.
 *
 * @param args what the user gave: arguments of `wrangler deploy`; with `--dry-run` nothing leaves the machine
 * @returns the arguments of each run, or why there can be none and what to do
 */
export function planDeploy(
  databases: readonly DatabaseBinding[],
  args: readonly string[],
): { steps: string[][] } | { refusal: string } {
  const deploy = ['deploy', ...args]
  if (args.includes('--dry-run')) return { steps: [deploy] }
  const missing = databases.find(({ database_id: id }) => PLACEHOLDER.test(id ?? ''))
  if (missing) {
    const name = missing.database_name ?? missing.binding
    return {
      refusal:
        `wrangler.toml names no database of yours for ${missing.binding}. Make it once with 'npx wrangler d1 create ` +
        `${name}', put its id there as database_id, and go on as docs/deploy.md says.`,
    }
  }
  return {
    steps: [...databases.map(({ binding }) => ['d1', 'migrations', 'apply', binding, '--remote']), deploy],
  }
}
