import { resolve } from 'node:path'
import { parseArgs } from 'node:util'

/** What a database binding of `wrangler.toml` says, as far as it matters here. */
interface DatabaseBinding {
  binding: string
  database_name?: string | undefined
  database_id?: string | undefined
}

/** What the user's arguments say of every run of Wrangler, and of how its configuration is to be read. */
export interface Target {
  /** The configuration's file. */
  configPath: string
  /** The environment in it; undefined: the top level, or what CLOUDFLARE_ENV names. */
  env: string | undefined
  isDryRun: boolean
  /** The arguments that are Wrangler's, not those of `wrangler deploy` alone. */
  globalArgs: string[]
}

/** The id that stands in the repository: of no database. */
const PLACEHOLDER = /^[0-]*$/

const GLOBAL_OPTIONS = {
  config: { type: 'string', short: 'c' },
  cwd: { type: 'string' },
  env: { type: 'string', short: 'e' },
  'env-file': { type: 'string', multiple: true },
  profile: { type: 'string' },
} as const

/**
 * Reads which configuration, environment and account the arguments of `wrangler deploy` name.
 *
 * @param root where Wrangler runs
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
 * What Wrangler has to do, in order: the schema goes before the Worker that needs it, and to the same environment.
 *
 * @param databases of that environment
 * @param args what the user gave: arguments of `wrangler deploy`; with `--dry-run` nothing leaves the machine
 * @returns the arguments of each run, or why there can be none and what to do
 */
export function planDeploy(
  databases: readonly DatabaseBinding[],
  { configPath, env, isDryRun, globalArgs }: Target,
  args: readonly string[],
): { steps: string[][] } | { refusal: string } {
  const deploy = ['deploy', ...args]
  if (isDryRun) return { steps: [deploy] }
  if (databases.length === 0) {
    return {
      refusal:
        `${configPath} has no database${env === undefined ? '' : ` in the environment '${env}'`}. Environments ` +
        `inherit no bindings: repeat [[d1_databases]] and the others there, as docs/deploy.md says.`,
    }
  }
  const missing = databases.find(({ database_id: id }) => PLACEHOLDER.test(id ?? ''))
  if (missing) {
    const name = missing.database_name ?? missing.binding
    return {
      refusal:
        `${configPath} names no database of yours for ${missing.binding}. Make it once with 'npx wrangler d1 create ` +
        `${name}', put its id there as database_id, and go on as docs/deploy.md says.`,
    }
  }
  return {
    steps: [
      ...databases.map(({ binding }) => ['d1', 'migrations', 'apply', binding, '--remote', ...globalArgs]),
      deploy,
    ],
  }
}
