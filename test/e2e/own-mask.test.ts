/** A mask of a single domain end to end: the real gateway, a real node with the tiny model, selected, gated and served. */
import type { Completion } from '@copal/shared/wire/completions.ts'
import type { StatusReport, UpdateEntry } from '@copal/shared/wire/admin.ts'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startFleet, type TestFleet } from '../support/processes/fleet.ts'
import { randomHalfMask } from '../support/models/random-masks.ts'
import { until } from '../support/processes/service.ts'
import { passages } from '../support/text/passages.ts'

let fleet: TestFleet
beforeAll(async () => {
  fleet = await startFleet()
  await fleet.start('node-a')
  await until('the model to be known', async () => {
    const { models } = await fleet.admin<StatusReport>('GET', '/admin/status')
    return models[0]
  })
  // A random mask, than which any selected one is better.
  await fleet.importMask(randomHalfMask(fleet.model, 1).bytes, true)
})
afterAll(() => fleet?.stop())

test('a domain is served by a mask of its own beside the shared one, and by that again when it is removed', async () => {
  const { key } = await fleet.key()
  await until('the shared mask', async () => ((await ask(key, 'speech')).mask === '1' ? true : undefined))
  await fleet.admin('PUT', '/admin/policy', {
    discovery: { own_masks: true, own_mask_gain: 1 },
    gate: { max_dense_ratio: 1000 },
    confirm: 1,
  })
  await fleet.admin('POST', '/admin/domains/speech/texts', { texts: passages('speech.calibration.txt', 120) })
  const demand = { samples: 4, length: 64, selection: { method: 'continual-wanda' } }
  const started = await until('the update to start', () =>
    fleet.admin<UpdateEntry>('POST', '/admin/domains/speech/mask', demand).catch(() => undefined),
  )
  const ended = await until('the update to end', async () => {
    const update = await fleet.admin<UpdateEntry>('GET', `/admin/updates/${started.id}`)
    return update.finished_at === null ? undefined : update
  })
  expect([ended.state, ended.error]).toEqual(['promoted', null])
  const version = String(ended.mask_version)

  const own = await until('the own mask to answer', async () => {
    const answer = await ask(key, 'speech')
    return answer.mask === version ? answer : undefined
  })
  expect(own.fingerprint).toBe(`copal-tiny-m${version}`)
  const shared = await ask(key, 'code')
  expect(shared).toMatchObject({ mask: '1', fingerprint: 'copal-tiny-m1' })
  expect(own.logprobs).not.toEqual(shared.logprobs)

  await fleet.admin('DELETE', '/admin/domains/speech/mask')
  await until('the shared mask to answer', async () =>
    (await ask(key, 'speech')).mask === '1' ? true : undefined,
  )
  await until('the node to give it back', async () => {
    const { nodes } = await fleet.admin<StatusReport>('GET', '/admin/status')
    const held = nodes[0]?.weight_sets.map((set) => String(set.version)) ?? [version]
    return held.includes(version) ? undefined : true
  })
})

/** Sends a greedy completion of a domain. */
async function ask(key: string, domain: string) {
  const response = await fetch(`${fleet.url}/v1/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json', 'x-copal-domain': domain },
    body: JSON.stringify({
      model: 'tiny',
      prompt: 'the cat sat on the mat',
      max_tokens: 8,
      temperature: 0,
      logprobs: 0,
    }),
  })
  if (!response.ok) throw new Error(`HTTP ${response.status}: ${await response.text()}`)
  const { choices, system_fingerprint: fingerprint } = (await response.json()) as Completion
  return {
    mask: response.headers.get('x-copal-mask'),
    fingerprint,
    logprobs: choices[0]?.logprobs?.token_logprobs,
  }
}
