import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test, vi } from 'vitest'
import { checkMask, decodeMask, encodeMask } from '@copal/shared/mask/mask-codec.ts'
import type { EvaluateJob } from '@copal/shared/wire/adaptation-jobs.ts'
import type { Heartbeat } from '@copal/shared/wire/heartbeat.ts'
import { WAIT } from '../../support/harness/wait.ts'
import {
  TEXTS,
  heartbeatWhere,
  calibrateJob,
  evaluateText,
  generate,
  halfMask,
  reportWhere,
  prepareNode,
  urlOf,
  weightSetPids,
  prepareWholeNodes,
  withValues,
} from '../../support/processes/whole-node.ts'
import { maskSparsity } from '../../support/models/mask-figures.ts'

prepareWholeNodes()

test('a node serves dense, calibrates a mask, uploads it, swaps to it and evaluates it, and rejects an evaluation of a mask it does not know', async () => {
  const { gateway, start } = await prepareNode()
  const node = await start()
  const dense = await heartbeatWhere(gateway, (beat) =>
    beat.weightSets.some(({ state }) => state === 'ready'),
  )
  expect(dense).toMatchObject({
    activeVersion: 0,
    draining: false,
    model: { id: 'tiny', contextLength: 256 },
  })
  expect((await generate(gateway, node, 'request-dense')).mask).toBe('0')

  gateway.jobs.push(calibrateJob(gateway, 'calibrate-1'))
  const { result } = await reportWhere(gateway, 'calibrate-1', ({ state }) => state === 'done')
  if (result?.kind !== 'calibrate') throw new Error('not a calibrate result')
  const file = gateway.artifacts.get(`masks/${result.maskSha256}`)
  if (!file) throw new Error('the mask was not uploaded before it was reported')
  const mask = decodeMask(file)
  const shapes = new Map([...mask.linears].map(([name, { rows, cols }]) => [name, [rows, cols] as const]))
  checkMask(mask, { baseSha256: dense.model.baseSha256, shapes })
  expect(mask.linears.size).toBe(14)
  expect(maskSparsity(mask)).toBe(0.5)
  expect(result).toMatchObject({ maskBytes: file.length, sparsity: 0.5, churn: null })

  gateway.desired = { active: { version: 1, sha256: result.maskSha256 }, previous: null }
  await heartbeatWhere(gateway, (beat) => beat.activeVersion === 1)
  expect((await generate(gateway, node, 'request-pruned')).mask).toBe('1')
  await vi.waitFor(() => expect(gateway.receipts.size).toBe(2), WAIT)
  const { drift, scoring } = gateway.receipts.get('request-pruned')!
  expect(scoring).toBe('scored')
  expect(drift?.tokens).toBeGreaterThan(0)
  expect(drift?.nllMasked).not.toBe(drift?.nllDense)

  // The probe texts are scored under the new mask as soon as it is loaded.
  const probed = await heartbeatWhere(gateway, ({ probes = [] }) => probes.length > 1)
  const [byDense, byMask] = [0, 1].map((version) =>
    probed.probes?.find(({ maskVersion }) => maskVersion === version),
  )
  expect(byMask?.tokens).toBe(byDense?.tokens)
  expect(byMask?.nll).not.toBe(byDense?.nll)
  expect(probed.device).toMatch(/1 thread, onnx/)

  const holdout = gateway.addDataset('legal', TEXTS.slice(0, 5))
  const evaluateJob: EvaluateJob = {
    kind: 'evaluate',
    id: 'evaluate-1',
    model: 'tiny',
    mask: result.maskSha256,
    holdouts: [holdout],
    windowTokens: 32,
  }
  gateway.jobs.push(evaluateJob, { ...evaluateJob, id: 'evaluate-dense', mask: null })
  const pruned = await reportWhere(gateway, 'evaluate-1', ({ state }) => state === 'done')
  const unpruned = await reportWhere(gateway, 'evaluate-dense', ({ state }) => state === 'done')
  expect(pruned.result).toMatchObject({
    kind: 'evaluate',
    domains: [{ domain: 'legal', holdoutSha256: holdout.sha256 }],
  })
  if (pruned.result?.kind !== 'evaluate' || unpruned.result?.kind !== 'evaluate')
    throw new Error('not evaluations')
  expect(pruned.result.domains[0]?.tokens).toBe(unpruned.result.domains[0]?.tokens)
  expect(pruned.result.domains[0]?.nllMean).not.toBe(unpruned.result.domains[0]?.nllMean)
  const { numerics } = pruned.result
  expect(numerics).toMatch(/, head /)
  await heartbeatWhere(gateway, (beat) => beat.numerics === numerics)

  const events = await evaluateText(gateway, node, { maskVersion: 1 })
  const last = events.at(-1)
  if (last?.type !== 'result') throw new Error(JSON.stringify(last))
  expect(last.maskVersion).toBe(1)
  expect(last.perplexity).toBeCloseTo(Math.exp(last.nllMean), 6)
  expect(events[0]?.type).toBe('progress')
  // The node does not have this version, and the call has no hash by which it could get it.
  const unknown = { model: 'tiny', maskVersion: 7, text: 'x y z' }
  expect((await gateway.callNode(await urlOf(node), 'POST', '/rpc/evaluate', unknown)).status).toBe(404)
  await heartbeatWhere(gateway, (beat) => beat.jobs.length === 0)

  // Nothing of the evaluations is left running: dense and the active mask have a process each.
  await vi.waitFor(() => expect(weightSetPids(node)).toHaveLength(2), WAIT)
})

test('a damaged mask and a mask of another model are reported while the old mask goes on serving', async () => {
  const { gateway, start } = await prepareNode()
  const good = gateway.addMask(encodeMask(halfMask(0)))
  gateway.desired = { active: { version: 1, sha256: good }, previous: null }
  const node = await start()
  await heartbeatWhere(gateway, (beat) => beat.activeVersion === 1)
  const before = await generate(gateway, node, 'request-before')

  const wrongCounts = halfMask(1)
  const first = [...wrongCounts.linears.values()][0]
  if (!first) throw new Error('no linear')
  first.bits[0] = 0b10101011
  const bad = gateway.addMask(encodeMask(wrongCounts))
  gateway.desired = { active: { version: 2, sha256: bad }, previous: { version: 1, sha256: good } }
  const refused = await heartbeatWhere(gateway, (beat) =>
    beat.weightSets.some(({ version, state }) => version === 2 && state === 'failed'),
  )
  expect(refused.activeVersion).toBe(1)
  expect(refused.weightSets.find(({ version }) => version === 2)?.error).toMatch(/keeps/)

  const stranger = gateway.addMask(encodeMask(halfMask(1, 'e'.repeat(64))))
  gateway.desired = { active: { version: 3, sha256: stranger }, previous: { version: 1, sha256: good } }
  const foreign = await heartbeatWhere(gateway, (beat) =>
    beat.weightSets.some(({ version, state }) => version === 3 && state === 'failed'),
  )
  expect(foreign.activeVersion).toBe(1)
  expect(foreign.weightSets.find(({ version }) => version === 3)?.error).toMatch(
    /made for other dense weights/,
  )
  expect(foreign.weightSets.map(({ version }) => version)).toEqual([0, 1, 3])
  expect(await generate(gateway, node, 'request-after')).toEqual(before)
})

test('a node holds a mask on trial beside the active one, answers calls that name it, and lets it go', async () => {
  const { gateway, home, start } = await prepareNode()
  const one = gateway.addMask(encodeMask(halfMask(0)))
  const two = gateway.addMask(encodeMask(withValues(halfMask(1))))
  const active = { version: 1, sha256: one }
  gateway.desired = { active, previous: null, trials: [{ version: 2, sha256: two }] }
  const first = await start()
  const holdsBoth = (beat: Heartbeat) =>
    beat.activeVersion === 1 &&
    beat.weightSets.some(({ version, state }) => version === 2 && state === 'ready')
  await heartbeatWhere(gateway, holdsBoth)
  const serving = await generate(gateway, first, 'request-active')
  const tried = await generate(gateway, first, 'request-tried', 2)
  expect([serving.mask, tried.mask]).toEqual(['1', '2'])
  expect(tried.logprobs).not.toEqual(serving.logprobs)

  // The other mask scores the output of the active one. The node reports the score until the gateway has received it.
  await generate(gateway, first, 'request-shadowed', undefined, 2)
  const told = await vi.waitFor(() => {
    const [score] = gateway.heartbeats.flatMap(({ shadows = [] }) => shadows)
    if (!score) throw new Error('not scored yet')
    return score
  }, WAIT)
  const { prompt, answer, ...of } = told
  const domain = 'legal'
  expect(of).toEqual({
    requestId: 'request-shadowed',
    model: 'tiny',
    domain,
    maskVersion: 1,
    shadowVersion: 2,
  })
  for (const part of [prompt, answer]) {
    expect(part.tokens).toBeGreaterThan(5)
    expect(part.nllShadow).not.toBe(part.nll)
  }
  await heartbeatWhere(gateway, ({ shadows }) => shadows?.length === 0)
  await first.end('SIGKILL')

  // It comes back with both, from its own files.
  gateway.artifacts.clear()
  gateway.heartbeats.length = 0
  const second = await start()
  await heartbeatWhere(gateway, holdsBoth)
  const again = await generate(gateway, second, 'request-again', 2)
  expect(again.logprobs).toEqual(tried.logprobs)

  gateway.desired = { active, previous: null }
  await heartbeatWhere(gateway, ({ weightSets }) => !weightSets.some(({ version }) => version === 2))
  expect(await readdir(join(home, 'masks'))).toContain(`${one}.safetensors`)
  const after = await generate(gateway, second, 'request-after')
  expect(after.logprobs).toEqual(serving.logprobs)
})
