import { expect, test } from 'vitest'
import type { AuditEntry, AuditPage } from '@copal/shared/wire/admin-audit.ts'
import { auditHash, FIRST_PREVIOUS_HASH } from '@copal/shared/wire/audit-hash.ts'
import { verifyChain } from '../../../../gateway/dashboard/src/pages/audit/verify-chain.ts'

async function logOf(count: number): Promise<AuditEntry[]> {
  const rows: AuditEntry[] = []
  for (let id = 1; id <= count; id += 1) {
    const row = {
      id,
      actor: 'admin-1',
      action: 'POST /admin/keys',
      target: 'key_1',
      before: null,
      after: null,
      reason: '',
      request_id: null,
      created_at: id,
      previous_hash: rows.at(-1)?.hash ?? FIRST_PREVIOUS_HASH,
    }
    rows.push({ ...row, hash: await auditHash(row), sealed: true })
  }
  return rows
}

/** Serves rows two a page. */
const reader =
  (rows: readonly AuditEntry[], checkpoint: AuditPage['checkpoint'] = null) =>
  async (after: number): Promise<AuditPage> => {
    const data = rows.filter(({ id }) => id > after).slice(0, 2)
    const last = data.at(-1)
    const next = last !== undefined && last !== rows.at(-1) ? last.id : null
    return { data, checkpoint, next_after: next }
  }

test('a log as it was written is sound, page by page', async () => {
  const rows = await logOf(5)
  const seen: number[] = []
  const check = await verifyChain(reader(rows), (count) => seen.push(count))
  expect(check).toEqual({ sound: true, rows: 5, last: `5:${rows[4]?.hash}` })
  expect(seen).toEqual([2, 4, 5])
})

test('a changed, a removed and an unsealed row are found', async () => {
  const rows = await logOf(4)
  const changed = rows.map((row) => (row.id === 3 ? { ...row, actor: 'somebody' } : row))
  expect(await verifyChain(reader(changed))).toMatchObject({
    sound: false,
    brokenAt: 3,
    what: 'it was changed',
  })
  const removed = rows.filter(({ id }) => id !== 2)
  expect(await verifyChain(reader(removed))).toMatchObject({
    brokenAt: 2,
    what: 'it is missing; row 3 follows',
  })
  const unsealed = rows.map((row) => (row.id === 4 ? { ...row, sealed: false } : row))
  expect(await verifyChain(reader(unsealed))).toMatchObject({ brokenAt: 4 })
})

test('after retention the first row follows from the checkpoint', async () => {
  const rows = await logOf(4)
  const kept = rows.slice(2)
  const checkpoint = { id: 2, hash: rows[1]?.hash ?? '', sealed: true }
  expect(await verifyChain(reader(kept, checkpoint))).toMatchObject({ sound: true, rows: 2 })
  expect(await verifyChain(reader(kept, { ...checkpoint, sealed: false }))).toMatchObject({ sound: false })
})
