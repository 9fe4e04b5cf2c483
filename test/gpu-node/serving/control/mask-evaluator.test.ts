import { expect, test } from 'vitest'
import { AppError } from '@copal/shared/errors.ts'
import type { Backend } from '../../../../gpu-node/src/serving/contract/backend.ts'
import { createMaskEvaluator } from '../../../../gpu-node/src/serving/control/mask-evaluator.ts'
import type { DenseModel } from '../../../../gpu-node/src/model/master/dense-model.ts'

test('an evaluation that is cancelled while another one runs ends at once, and the next still waits for its turn', async () => {
  const asked: string[] = []
  const download = Promise.withResolvers<string>()
  const evaluator = createMaskEvaluator({
    backend: {} as Backend,
    model: {} as DenseModel,
    reference: { spec: 'tiny', cacheDir: '', id: 'tiny', baseSha256: '' },
    masks: {
      ensure(sha256) {
        asked.push(sha256)
        return download.promise
      },
    },
  })
  const evaluate = (sha256: string, signal?: AbortSignal) =>
    evaluator.evaluate(sha256, [{ texts: ['some text'] }], { windowTokens: 16, signal })
  const first = evaluate('first')
  const cancel = new AbortController()
  const second = evaluate('second', cancel.signal)
  const third = evaluate('third')
  cancel.abort()
  await expect(second).rejects.toMatchObject({ code: 'client_closed_request' })
  expect(asked).toEqual(['first'])
  download.reject(new AppError('not_found', 'no such mask'))
  await expect(first).rejects.toMatchObject({ code: 'not_found' })
  await expect(third).rejects.toMatchObject({ code: 'not_found' })
  expect(asked).toEqual(['first', 'third'])
})
