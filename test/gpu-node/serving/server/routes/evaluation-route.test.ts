import { expect, test } from 'vitest'
import { AppError } from '@copal/shared/errors.ts'
import { arithmeticNodes } from '../../../../support/doubles/arithmetic-node.ts'

const nodes = arithmeticNodes()
const { start } = nodes

test('an evaluation streams its events line by line; a late failure is the last line', async () => {
  const { node } = await start({
    evaluateText: async function* (evaluate) {
      yield { type: 'progress', windowsDone: 1, windowsTotal: 2 }
      if (evaluate.text === 'bad') throw new AppError('mask_invalid', 'The mask is damaged.')
      yield {
        type: 'result',
        tokens: 5,
        windows: 2,
        nllMean: 1,
        perplexity: Math.E,
        maskVersion: evaluate.maskVersion,
      }
    },
  })
  const lines = async (fields: object) => {
    const response = await node.post('/rpc/evaluate', {
      model: 'tiny',
      maskVersion: 7,
      text: 'good',
      ...fields,
    })
    const text = await response.text()
    return {
      status: response.status,
      events: text
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as object),
    }
  }
  expect((await lines({})).events).toMatchObject([{ type: 'progress' }, { type: 'result', maskVersion: 7 }])
  expect((await lines({ text: 'bad' })).events).toMatchObject([
    { type: 'progress' },
    { type: 'error', error: { code: 'mask_invalid' } },
  ])
  expect((await lines({ model: 'gpt' })).status).toBe(404)
})

test('a client that disconnects aborts its evaluation', async () => {
  const left = Promise.withResolvers<boolean>()
  const { node } = await start({
    evaluateText: async function* (_, signal) {
      signal.addEventListener('abort', () => left.resolve(signal.aborted))
      yield { type: 'progress', windowsDone: 0, windowsTotal: 1 }
      await left.promise
    },
  })
  const abort = new AbortController()
  const response = await node.post(
    '/rpc/evaluate',
    { model: 'tiny', maskVersion: 0, text: 'x' },
    { signal: abort.signal },
  )
  await response.body?.getReader().read()
  abort.abort()
  expect(await left.promise).toBe(true)
})
