import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import type { DecisionKind, DecisionVerdict } from '@copal/shared/wire/admin-decisions.ts'
import { openDatabase } from '../../../../../gateway/src/storage/db/open-database.ts'
import {
  findActivation,
  insertDecision,
} from '../../../../../gateway/src/storage/db/queries/decision-queries.ts'

const db = openDatabase(env.DB)

test('the activation of a mask is its last promotion, or the last return from another mask', async () => {
  const model = { id: 'decided', activeVersion: 1 }
  const decide = (kind: DecisionKind, verdict: DecisionVerdict, maskVersion: number, createdAt: number) =>
    insertDecision(db, {
      model: model.id,
      kind,
      verdict,
      maskVersion,
      createdAt,
      reason: '',
      actor: 'copal',
    })
  const foundAt = async () => (await findActivation(db, model))?.createdAt
  expect(await foundAt()).toBeUndefined()
  await decide('promote', 'done', 1, 1)
  await decide('promote', 'done', 2, 2)
  await decide('watch', 'passed', 2, 3)
  await decide('gate', 'failed', 3, 4)
  expect(await foundAt()).toBe(1)
  await decide('watch', 'failed', 2, 5)
  expect(await foundAt()).toBe(5)
  await decide('roll_back', 'done', 2, 6)
  await decide('canary', 'failed', 4, 7)
  expect(await foundAt()).toBe(6)
  await decide('promote', 'done', 1, 6)
  // Of the same time the later one.
  expect(await findActivation(db, model)).toMatchObject({ kind: 'promote', createdAt: 6 })
})
