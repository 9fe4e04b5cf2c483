import { expect, test } from 'vitest'
import { Ledger } from '../../../../gateway/src/fleet/ledger/ledger.ts'
import { createRandom } from '../../../support/harness/random.ts'
import {
  reservationRequest,
  key,
  MINUTE_MS,
  storeChanges,
  START_MS,
  tenant,
} from '../../support/state/ledger.ts'

test('random usage never exceeds a limit in any minute, over restarts and all endings of requests', () => {
  for (let seed = 1; seed <= 15; seed += 1) {
    const { violations, admitted, refused } = playRandomly(seed)
    expect(violations).toEqual([])
    expect(admitted).toBeGreaterThan(10)
    expect(refused).toBeGreaterThan(10)
  }
})

/** Runs four hundred random events, and checks the limits after each against a list of all admitted requests. */
function playRandomly(seed: number): { violations: string[]; admitted: number; refused: number } {
  const random = createRandom(seed)
  const pick = (most: number) => Math.floor(random() * most)
  const ofKey = { requestsPerMinute: 5 + pick(20), tokensPerMinute: 500 + pick(2_000), tokensPerMonth: 9_000 }
  const ofTenant = {
    requestsPerMinute: 10 + pick(20),
    tokensPerMonth: 8_000,
    concurrentRequests: 1 + pick(6),
  }
  const accounts = [key(ofKey), tenant(ofTenant)]
  let ledger = new Ledger()
  const stored = storeChanges(ledger, START_MS)
  const spent = () => JSON.stringify([...stored.accounts].map(([id, record]) => [id, record.spent]))
  const admitted: { id: string; atMs: number; reserved: number; used: number | undefined }[] = []
  const violations: string[] = []
  let refused = 0
  let nowMs = START_MS
  for (let step = 0; step < 400; step += 1) {
    nowMs += pick(2_500)
    const running = admitted.filter(({ used }) => used === undefined)
    const chosen = running[pick(running.length)]
    const action = pick(10)
    if (action < 6 || !chosen) {
      const maxTokens = pick(4) === 0 ? null : pick(300)
      const wanted = reservationRequest(`r${step}`, accounts, { promptTokens: pick(100), maxTokens })
      const before = spent()
      const result = ledger.reserve(wanted, nowMs)
      storeChanges(ledger, nowMs, stored)
      if (result.ok) {
        const reserved = wanted.promptTokens + (maxTokens ?? result.maxTokens ?? 0)
        admitted.push({ id: wanted.requestId, atMs: nowMs, reserved, used: undefined })
      } else {
        refused += 1
        const held = stored.reservations.has(wanted.requestId)
        if (held || (before !== '[]' && spent() !== before))
          violations.push(`${step}: a rejection used something`)
      }
    } else if (action < 8) {
      chosen.used = pick(chosen.reserved + 1)
      ledger.settle(chosen.id, chosen.used, nowMs)
    } else if (action === 8) {
      chosen.used = 0
      ledger.finish(chosen.id, true, nowMs)
    } else {
      ledger = new Ledger()
      ledger.restore(stored, nowMs)
    }
    storeChanges(ledger, nowMs, stored)
    const inLastMinute = admitted.filter(({ atMs }) => atMs > nowMs - MINUTE_MS)
    const cost = (list: typeof admitted) =>
      list.reduce((sum, { used, reserved }) => sum + (used ?? reserved), 0)
    const open = admitted.filter(({ used }) => used === undefined).length
    const check = (what: string, used: number, most: number) => {
      if (used > most) violations.push(`seed ${seed}, step ${step}: ${used} ${what}, ${most} are allowed`)
    }
    check('requests', inLastMinute.length, Math.min(ofKey.requestsPerMinute, ofTenant.requestsPerMinute))
    check('tokens in a minute', cost(inLastMinute), ofKey.tokensPerMinute)
    check('tokens in a month', cost(admitted), Math.min(ofKey.tokensPerMonth, ofTenant.tokensPerMonth))
    check('requests at a time', open, ofTenant.concurrentRequests)
  }
  return { violations, admitted: admitted.length, refused }
}
