import { InvalidArgumentError, type Command } from 'commander'
import type { LimitChanges, LimitsEntry } from '@copal/shared/wire/admin-keys.ts'
import { formatCount } from '@copal/gpu-node/platform/quantities.ts'

/** A limit, or `none` to remove it. */
type Limit = number | 'none'

/** Options that {@link addLimitOptions} adds. */
export interface LimitOptions {
  requestsPerMinute?: Limit
  tokensPerMinute?: Limit
  tokensPerMonth?: Limit
  concurrent?: Limit
}

/** Adds the options that set limits to a command. */
export function addLimitOptions(command: Command): Command {
  return command
    .option('--requests-per-minute <n>', "maximum per minute; 'none' removes the limit (also below)", count)
    .option('--tokens-per-minute <n>', 'maximum per minute, of prompts and completions together', count)
    .option('--tokens-per-month <n>', 'maximum per calendar month (UTC)', count)
    .option('--concurrent <n>', 'maximum number of requests at the same time', count)
}

/** Returns the limits that the options change; null removes a limit. */
export function limitChanges(options: LimitOptions): LimitChanges {
  const change = (name: keyof LimitChanges, limit: Limit | undefined): LimitChanges =>
    limit === undefined ? {} : { [name]: limit === 'none' ? null : limit }
  return {
    ...change('requests_per_minute', options.requestsPerMinute),
    ...change('tokens_per_minute', options.tokensPerMinute),
    ...change('tokens_per_month', options.tokensPerMonth),
    ...change('concurrent_requests', options.concurrent),
  }
}

/** Formats limits as `60 req/min, 1,000,000 tok/month`, or as `none`. */
export function formatLimits(limits: LimitsEntry): string {
  const parts = [
    [limits.requests_per_minute, 'req/min'],
    [limits.tokens_per_minute, 'tok/min'],
    [limits.tokens_per_month, 'tok/month'],
    [limits.concurrent_requests, 'at a time'],
  ] as const
  const set = parts.flatMap(([value, unit]) => (value === null ? [] : [`${formatCount(value)} ${unit}`]))
  return set.join(', ') || 'none'
}

function count(text: string): Limit {
  if (text === 'none') return text
  if (/^[1-9]\d{0,11}$/.test(text)) return Number(text)
  throw new InvalidArgumentError("A whole number of at least 1, or 'none', is expected.")
}
