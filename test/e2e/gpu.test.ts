/** A GPU node end to end, on whatever device there is, also a software driver: streams, a swap under them, a roll-back. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { NodeEntry, StatusReport } from '@copal/shared/wire/admin.ts'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { gpu, skipWithoutGpu } from '../support/engine/gpu.ts'
import { randomHalfMask } from '../support/models/random-masks.ts'
import { startFleet, type TestFleet } from '../support/processes/fleet.ts'
import { until } from '../support/processes/service.ts'

/** Pause between the streams of a lane. Without one a software driver takes the processors from the update. */
const PAUSE_MS = 250

skipWithoutGpu('a node end to end')
describe.runIf('addon' in gpu)('a node on a GPU', () => {
  let fleet: TestFleet
  let key: string
  beforeAll(async () => {
    fleet = await startFleet({ backend: 'gpu', nodeVariables: { COPAL_KV_TOKENS: '4096' } })
    await fleet.start('node-a')
    key = (await fleet.key()).key
    await until('the model to be known', async () => {
      const { models } = await fleet.admin<StatusReport>('GET', '/admin/status')
      return models[0]
    })
  })
  afterAll(() => fleet?.stop())

  test('streams, an update and a roll-back under streams, each request on one mask', async () => {
    const alone = await stream()
    expect(alone).toMatchObject({ mask: '0', finish: expect.stringMatching(/length|stop/) })

    const running = keepStreaming()
    await fleet.importMask(randomHalfMask(fleet.model, 1).bytes, true)
    await until('the mask to serve', async () => ((await stream()).mask === '1' ? true : undefined))
    const pruned = await stream()
    await fleet.admin('POST', '/admin/rollback', {})
    await until('dense to serve', async () => ((await stream()).mask === '0' ? true : undefined))
    const outputs = await running.stop()

    expect(new Set(outputs.map(({ mask }) => mask))).toEqual(new Set(['0', '1']))
    for (const output of outputs) expect(output).toEqual(output.mask === '0' ? alone : pruned)
    expect(pruned.logprobs).not.toEqual(alone.logprobs)
  })

  test('the node shows its device, backend and memory', async () => {
    const { data } = await fleet.admin<{ data: NodeEntry[] }>('GET', '/admin/nodes')
    expect(data[0]?.device).toMatch(/ tokens\/s for one stream, gpu-bf16/)
    expect(data[0]?.weight_memory?.budget_bytes).toBeGreaterThan(0)
  })

  /** Streams one greedy completion. */
  async function stream() {
    const response = await fetch(`${fleet.url}/v1/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: JSON.stringify({
        model: 'tiny',
        prompt: 'the cat sat on the mat',
        max_tokens: 24,
        temperature: 0,
        logprobs: 0,
        stream: true,
      }),
    })
    const body = await response.text()
    if (!response.ok) throw new Error(`HTTP ${response.status}: ${body}`)
    const chunks = body
      .split('\n')
      .filter((line) => line.startsWith('data: {'))
      .map((line) => JSON.parse(line.slice(6)) as Chunk)
    return {
      mask: response.headers.get('x-copal-mask') ?? '',
      text: chunks.map(({ choices }) => choices[0]?.text ?? '').join(''),
      logprobs: chunks.flatMap(({ choices }) => choices[0]?.logprobs?.token_logprobs ?? []),
      finish: chunks.map(({ choices }) => choices[0]?.finish_reason).findLast((reason) => reason),
    }
  }

  function keepStreaming() {
    const outputs: Awaited<ReturnType<typeof stream>>[] = []
    let stopped = false
    const lanes = [0, 1].map(async () => {
      while (!stopped) {
        outputs.push(await stream())
        await sleep(PAUSE_MS)
      }
    })
    const ended = Promise.all(lanes)
    // Awaited by `stop`; a failure before that must not count as unhandled.
    ended.catch(() => undefined)
    return {
      async stop() {
        stopped = true
        await ended
        return outputs
      },
    }
  }
})

/** The fields of a streamed chunk that the test reads. */
interface Chunk {
  choices: {
    text?: string
    finish_reason?: string | null
    logprobs?: { token_logprobs: number[] } | null
  }[]
}
