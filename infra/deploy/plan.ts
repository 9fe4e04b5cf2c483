import { resolve } from 'node:path'
import { parseArgs } from 'node:util'

/** The part of a database binding of `wrangler.toml` that matters here. */
interface DatabaseBinding {
  binding: string
  database_name?: string | undefined
  database_id?: string | undefined
}

/** The configuration and account that the user's arguments name, for every run of Wrangler. */
export interface Target {
  /** Path of the configuration. */
  configPath: string
  /** The environment in it; undefined for the top level, or for the one that CLOUDFLARE_ENV names. */
  env: string | undefined
  isDryRun: boolean
  /** Arguments that every command of Wrangler takes, not only `wrangler deploy`. */
  globalArgs: string[]
}

/** A run of Wrangler. */
export interface DeployStep {
  args: string[]
  /** The text that it must print before the next step runs. Its output is collected, so it cannot ask the operator anything. */
  mustPrint?: string
}

/** The id in the repository, which belongs to no database. */
const PLACEHOLDER = /^[0-]*$/

const GLOBAL_OPTIONS = {
  config: { type: 'string', short: 'c' },
  cwd: { type: 'string' },
  env: { type: 'string', short: 'e' },
  'env-file': { type: 'string', multiple: true },
  profile: { type: 'string' },
} as const

/**
 * Parses the configuration, environment and account from the arguments of `wrangler deploy`.
 *
 * @param root the folder in which Wrangler runs
 */
export function targetOf(args: readonly string[], root: string): Target {
  const { values, tokens } = parseArgs({
    args: [...args],
    options: { ...GLOBAL_OPTIONS, 'dry-run': { type: 'boolean' }, dryRun: { type: 'boolean' } },
    strict: false,
    tokens: true,
  })
  const text = (value: unknown) => (typeof value === 'string' ? value : undefined)
  const globalArgs = tokens.flatMap((token) =>
    token.kind === 'option' && Object.hasOwn(GLOBAL_OPTIONS, token.name)
      ? [`--${token.name}`, ...(token.value === undefined ? [] : [token.value])]
      : [],
  )
  const dryRun: unknown = values['dry-run'] ?? values.dryRun
  return {
    configPath: resolve(root, text(values.cwd) ?? '.', text(values.config) ?? 'wrangler.toml'),
    env: text(values.env),
    isDryRun: dryRun !== undefined && dryRun !== 'false',
    globalArgs,
  }
}

/**
 * Plans the runs of Wrangler: migrations come before the Worker that needs them, and go to the same environment. Wrangler asks
 * before it migrates, and succeeds also if the answer is no, so what it has applied is checked.
 *
 * @param databases the databases of that environment
 * @param args the user's arguments for `wrangler deploy`; with `--dry-run` nothing is uploaded
 * @returns the runs in order, or an error that says what to do
 */
export function planDeploy(
  databases: readonly DatabaseBinding[],
  { configPath, env, isDryRun, globalArgs }: Target,
  args: readonly string[],
): { steps: DeployStep[] } | { error: string } {
  const deploy = { args: ['deploy', ...args] }
  if (isDryRun) return { steps: [deploy] }
  if (databases.length === 0) {
    return {
      error:
        `${configPath} has no database${env === undefined ? '' : ` in the environment '${env}'`}. Environments ` +
        `do not inherit bindings: repeat [[d1_databases]] and the others there, see docs/deploy.md.`,
    }
  }
  const missing = databases.find(({ database_id: id }) => PLACEHOLDER.test(id ?? ''))
  if (missing) {
    const name = missing.database_name ?? missing.binding
    return {
      error:
        `${configPath} has no database id for ${missing.binding}. Create the database once with 'npx wrangler d1 create ` +
        `${name}', put its id there as database_id, and follow docs/deploy.md.`,
    }
  }
  return {
    steps: [
      ...databases.flatMap(({ binding }) => [
        { args: ['d1', 'migrations', 'apply', binding, '--remote', ...globalArgs] },
        {
          args: ['d1', 'migrations', 'list', binding, '--remote', ...globalArgs],
          mustPrint: 'No migrations to apply',
        },
      ]),
      deploy,
    ],
  }
}
