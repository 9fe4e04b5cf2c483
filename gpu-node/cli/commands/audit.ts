import { InvalidArgumentError, type Command } from 'commander'
import { UserError } from '@copal/gpu-node/platform/user-error.ts'
import { auditPage, type AuditEntry } from '@copal/shared/wire/admin-audit.ts'
import { auditHash, FIRST_PREVIOUS_HASH } from '@copal/shared/wire/audit-hash.ts'
import { formatCount } from '@copal/gpu-node/platform/quantities.ts'
import type { Session } from '../api/session.ts'
import { spanStart, timeSpan } from '../input/series-options.ts'

const ROWS_PER_PAGE = 500

interface ListOptions {
  actor?: string
  target?: string
  since?: string
  json?: boolean
}

/** Adds `copal audit list` and `verify`. */
export function addAudit(program: Command, session: Session): void {
  const audit = program
    .command('audit')
    .description('read and verify the log of decisions and admin actions')
    .addHelpText('after', '\nExamples:\n  npx copal audit list\n  npx copal audit verify')

  audit
    .command('list')
    .description('list who did what, oldest first')
    .option('--actor <id>', 'only rows of this admin key, node:<id>, or copal for the service itself')
    .option('--target <target>', 'only rows about this key, update, or model and mask (smollm/m3)')
    .option('--since <time>', 'only rows since this time, like 6h, 30d or 2026-05-01T00:00:00Z', startOf)
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  npx copal audit list\n  npx copal audit list --actor node:node-1 --since 7d',
    )
    .action(async ({ json, ...filter }: ListOptions) => {
      const rows: AuditEntry[] = []
      for await (const page of pages(session, filter)) rows.push(...page.data)
      session.print(json, rows, () => describe(rows, session))
    })

  audit
    .command('verify')
    .description('check on this machine that no row was changed, removed or inserted')
    .option('--known <row:hash>', 'a row that an earlier run printed; it must still be there', rowName)
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  npx copal audit verify')
    .action(async ({ known, json }: { known?: string; json?: boolean }) => {
      const verified = await verify(session, known)
      session.print(json, verified, () =>
        verified.rows === 0
          ? 'The log is empty.'
          : `${verified.rows === 1 ? '1 row is as it was' : `${formatCount(verified.rows)} rows are as they were`} written. ` +
            `Keep the last one for the next time: --known ${verified.last}`,
      )
    })
}

/** Parses a time span, back from now, a date, or a time with its zone; returns an ISO time. */
function startOf(text: string): string {
  if (/^\d+[mhd]$/.test(text)) return spanStart(timeSpan(text))
  const time = /^\d{4}-\d\d-\d\d(T.*(Z|[+-]\d\d:\d\d))?$/.test(text) ? Date.parse(text) : Number.NaN
  if (Number.isNaN(time))
    throw new InvalidArgumentError('A time like 6h, 30d or 2026-05-01T00:00:00Z is expected.')
  return new Date(time).toISOString()
}

async function verify(
  session: Session,
  known: string | undefined,
): Promise<{ rows: number; last: string | null }> {
  let rows = 0
  let last: { id: number; hash: string } | undefined
  let foundKnown = known === undefined
  for await (const { data, checkpoint } of pages(session, {})) {
    // The checkpoint belongs to the first page; retention may move it while the others are read.
    if (last === undefined && checkpoint !== null) {
      if (!checkpoint.sealed) throw broken(checkpoint.id, 'its checkpoint was not written by the gateway')
      last = checkpoint
      foundKnown ||= Number(known?.split(':')[0]) < checkpoint.id || known === nameOf(checkpoint)
    }
    for (const row of data) {
      const before = last ?? { id: 0, hash: FIRST_PREVIOUS_HASH }
      if (row.id !== before.id + 1) throw broken(before.id + 1, `it is missing; row ${row.id} follows`)
      if (row.previous_hash !== before.hash) throw broken(row.id, 'it does not follow from the row before')
      if (row.hash !== (await auditHash(row))) throw broken(row.id, 'it was changed')
      if (!row.sealed) throw broken(row.id, 'it was not written by the gateway')
      foundKnown ||= known === nameOf(row)
      last = row
      rows += 1
    }
  }
  if (!foundKnown) {
    throw new UserError(
      'audit_broken',
      `The log has no row ${known} any more: its end was removed, or it was written anew.`,
    )
  }
  return { rows, last: last === undefined ? null : nameOf(last) }
}

/** Checks the name of a row. One that is mistyped is in no log, which would look as if rows had been removed. */
function rowName(text: string): string {
  if (/^[1-9]\d*:[0-9a-f]{64}$/.test(text)) return text
  throw new InvalidArgumentError(
    "The number of a row, ':' and its hash are expected, as 'npx copal audit verify' prints them.",
  )
}

function nameOf({ id, hash }: { id: number; hash: string }): string {
  return `${id}:${hash}`
}

function broken(id: number, what: string): UserError {
  return new UserError(
    'audit_broken',
    `The audit log is broken at row ${id}: ${what}. Rows before it are as they were written.`,
  )
}

async function* pages(session: Session, filter: Omit<ListOptions, 'json'>) {
  let after: number | null = 0
  while (after !== null) {
    const query = new URLSearchParams({ limit: String(ROWS_PER_PAGE), after: String(after) })
    for (const [name, value] of Object.entries(filter)) query.set(name, value)
    const page = await session.client().admin('GET', `/audit?${query.toString()}`, auditPage)
    yield page
    after = page.next_after
  }
}

function describe(rows: readonly AuditEntry[], session: Session): string {
  if (rows.length === 0) return 'No row of the audit log matches.'
  return session.table(
    [
      { title: 'ROW', value: ({ id }) => String(id), align: 'right' },
      {
        title: 'TIME',
        value: (row) => new Date(row.created_at).toISOString().slice(0, 19).replace('T', ' '),
      },
      { title: 'ACTOR', value: ({ actor }) => actor },
      { title: 'ACTION', value: ({ action }) => action },
      { title: 'TARGET', value: ({ target }) => target },
      { title: 'OUTCOME', value: ({ after }) => outcomeOf(after) },
      { title: 'REASON', value: ({ reason }) => reason, shrinks: true },
    ],
    rows,
  )
}

function outcomeOf(after: unknown): string {
  if (typeof after !== 'object' || after === null) return ''
  for (const name of ['error', 'verdict', 'outcome', 'status'])
    if (name in after) return String(Reflect.get(after, name))
  return ''
}
