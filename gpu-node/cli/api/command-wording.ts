import type { AppError } from '@copal/shared/errors.ts'
import { UserError } from '@copal/gpu-node/platform/user-error.ts'

/** Calls of the API that its messages recommend, and the commands that do the same. `*` is one segment of the path. */
const COMMANDS: readonly (readonly [call: string, command: string])[] = [
  ['GET nodes', 'npx copal nodes'],
  ['GET probes', 'npx copal nodes probes'],
  ['GET alerts', 'npx copal alerts'],
  ['GET domains', 'npx copal domains'],
  ['DELETE domains/*', 'npx copal domains delete *'],
  ['POST domains/*/mask', 'npx copal domains mask *'],
  ['DELETE domains/*/mask', 'npx copal domains mask * --remove'],
  ['GET domains/*/review', 'npx copal domains review *'],
  ['GET proposals', 'npx copal domains proposed'],
  ['POST domains/*/texts', 'npx copal domains import * <file>'],
  ['GET updates', 'npx copal updates'],
  ['POST updates', 'npx copal update <domain>'],
  ['GET updates/*', 'npx copal updates *'],
  ['POST updates/*/force', 'npx copal updates force * --reason <text>'],
  ['POST updates/*/cancel', 'npx copal cancel *'],
  ['GET masks', 'npx copal masks'],
  ['GET policy', 'npx copal policy show'],
  ['PUT policy', 'npx copal policy set <setting>'],
  ['POST rollback', 'npx copal rollback'],
  ['PUT shadow', 'npx copal shadow <mask> --share 5%'],
  ['DELETE canary', 'npx copal canary --end'],
  ['DELETE shadow', 'npx copal shadow --end'],
  ['GET keys', 'npx copal keys list'],
  ['DELETE keys/*', 'npx copal keys revoke *'],
  ['POST keys', 'npx copal keys create <name>'],
  ['GET tenants', 'npx copal tenants list'],
  ['PUT tenants/*', 'npx copal tenants set *'],
]

/** Fields of the API and the options that set them. */
const OPTIONS: Readonly<Record<string, string>> = {
  model: '--model',
  'selection.method': '--method',
  'selection.pattern': '--pattern',
  'selection.patterns': '--patterns',
  'selection.scope': '--scope',
  samples: '--samples',
  length: '--length',
  seed: '--seed',
  reason: '--reason',
  window_tokens: '--window',
  max_windows: '--max-windows',
  max_completion_tokens: '--max-tokens',
  temperature: '--temperature',
  tenant: '--tenant',
  scopes: '--scopes',
  default_domain: '--domain',
  allowed_domains: '--domains',
  allowed_models: '--models',
  expires_at: '--expires-in',
  grace_seconds: '--grace',
  since: '--since',
  'limits.requests_per_minute': '--requests-per-minute',
  'limits.tokens_per_minute': '--tokens-per-minute',
  'limits.tokens_per_month': '--tokens-per-month',
  'limits.concurrent_requests': '--concurrent',
}

/** Converts an error of the API into one that names options and commands instead of fields and calls. */
export function toCommandError({ code, message, param }: AppError): UserError {
  const field = Object.keys(OPTIONS).find((name) => param === name || param?.startsWith(`${name}.`))
  if (code === 'body_too_large') return new UserError(code, withFile(message))
  const asOption = field === undefined ? message : message.replace(`'${field}`, `'${OPTIONS[field]}`)
  return new UserError(code, withCommands(asOption))
}

/** Says of a body that is too large what a person can change. */
function withFile(message: string): string {
  return message.replace(
    /^The request body is larger than (.+), the maximum for this path\.$/,
    'The text is larger than $1, the maximum that this command can send. Use a part of it.',
  )
}

/** Replaces the API calls that a message recommends by commands. */
export function withCommands(message: string): string {
  return message.replaceAll(/'([A-Z]+) \/admin\/([^']*)'/g, (quoted, method: string, path: string) => {
    for (const [call, command] of COMMANDS) {
      const match = new RegExp(`^${call.replaceAll('*', '([^/]+)')}$`).exec(`${method} ${path}`)
      if (match) return `'${command.replace('*', (match[1] ?? '').replace(/^:(.*)$/, '<$1>'))}'`
    }
    return quoted
  })
}
