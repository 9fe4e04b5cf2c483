/** Usage of keys beside their limit of the month. */
import { DAY_MS } from '@copal/shared/day.ts'
import type { KeyEntry } from '@copal/shared/wire/admin-keys.ts'
import type { UsageReport } from '@copal/shared/wire/admin-usage.ts'

/** Days of usage that are shown: those of the longest month, so that the sum of this month is whole. */
export const USAGE_DAYS = 31

/** Tokens of one key on each day, oldest first. */
type KeyUsage = UsageReport['data'][number]

/** A key's usage beside its limit of the month. */
export interface UsageRow extends KeyUsage {
  /** Tokens since the first of the month, UTC. */
  month: number
  monthLimit: number | null
  /** Share of the limit that is used; null without a limit. */
  share: number | null
}

/** Joins usage with the limits of keys, most tokens first. A key that is revoked has no limit any more. */
export function usageRows({ from, data }: UsageReport, keys: readonly KeyEntry[], nowMs: number): UsageRow[] {
  const limits = new Map(keys.map((key) => [key.id, key.limits.tokens_per_month]))
  return data
    .map((usage) => {
      const month = tokensOfMonth(usage.tokens, from, nowMs)
      const monthLimit = limits.get(usage.key) ?? null
      return { ...usage, month, monthLimit, share: monthLimit === null ? null : month / monthLimit }
    })
    .toSorted((a, b) => b.total - a.total)
}

/** Sums the tokens of the days that are in the month of now, UTC. */
export function tokensOfMonth(tokens: readonly number[], from: string, nowMs: number): number {
  const now = new Date(nowMs)
  const monthStartMs = Date.UTC(now.getUTCFullYear(), now.getUTCMonth(), 1)
  const firstMs = Date.parse(`${from}T00:00:00Z`)
  return tokens.reduce((sum, count, day) => (firstMs + day * DAY_MS >= monthStartMs ? sum + count : sum), 0)
}

/** Tokens of all keys on each day. */
export function tokensByDay({ days, data }: UsageReport): number[] {
  return Array.from({ length: days }, (_, day) =>
    data.reduce((sum, { tokens }) => sum + (tokens[day] ?? 0), 0),
  )
}

/** Days of a report, oldest first, like `2026-11-01`. */
export function daysOf({ from, days }: Pick<UsageReport, 'from' | 'days'>): string[] {
  const firstMs = Date.parse(`${from}T00:00:00Z`)
  return Array.from({ length: days }, (_, day) => new Date(firstMs + day * DAY_MS).toISOString().slice(0, 10))
}
