/** Limits of keys and tenants as fields of a form. */
import type { LimitChanges, LimitsEntry } from '@copal/shared/wire/admin-keys.ts'
import { formatPrecise } from '../../format/numbers.ts'

/** The limits, in the order in which they are shown. */
export const LIMITS = [
  { name: 'requests_per_minute', label: 'Requests a minute', short: 'req/min' },
  { name: 'tokens_per_minute', label: 'Tokens a minute', short: 'tokens/min' },
  { name: 'tokens_per_month', label: 'Tokens a month (UTC)', short: 'tokens/month' },
  { name: 'concurrent_requests', label: 'Requests at the same time', short: 'at once' },
] as const satisfies readonly { name: keyof LimitsEntry; label: string; short: string }[]

/** The name of a limit. */
export type LimitName = (typeof LIMITS)[number]['name']
/** The texts of the fields of a form; empty is no limit. */
export type LimitTexts = Record<LimitName, string>

/** The texts of a form that shows limits: `50,000,000`. */
export function textsOf(limits: LimitsEntry | undefined): LimitTexts {
  const text = (name: LimitName) => {
    const limit = limits?.[name] ?? null
    return limit === null ? '' : formatPrecise(limit)
  }
  return {
    requests_per_minute: text('requests_per_minute'),
    tokens_per_minute: text('tokens_per_minute'),
    tokens_per_month: text('tokens_per_month'),
    concurrent_requests: text('concurrent_requests'),
  }
}

/** Reads a limit: digits, which may be grouped, with `k`, `M` or `B`. `null` is no limit; `undefined` is not a limit. */
export function parseLimit(text: string): number | null | undefined {
  const plain = text.trim().replaceAll(/[,_\s]/g, '')
  if (plain === '') return null
  const [, digits, letter] = /^(\d+(?:\.\d+)?)([kMBmb]?)$/.exec(plain) ?? []
  if (digits === undefined) return undefined
  const scale = { '': 1, k: 1e3, m: 1e6, b: 1e9 }[(letter ?? '').toLowerCase() as '' | 'k' | 'm' | 'b']
  // Without the noise of binary fractions: 4.1 times a million is more than 4,100,000.
  const value = Number((Number(digits) * scale).toPrecision(15))
  return Number.isSafeInteger(value) && value >= 1 && value <= 1e12 ? value : undefined
}

/** The changes that a form makes: only limits that differ. `undefined` if a field is not a limit. */
export function limitChangesOf(texts: LimitTexts, before: LimitsEntry | undefined): LimitChanges | undefined {
  const changes: LimitChanges = {}
  for (const { name } of LIMITS) {
    const value = parseLimit(texts[name])
    if (value === undefined) return undefined
    if (value !== (before?.[name] ?? null)) changes[name] = value
  }
  return changes
}

/** Texts with one of them changed. */
export function withText(name: LimitName, text: string): (texts: LimitTexts) => LimitTexts {
  return (texts) => ({ ...texts, [name]: text })
}
