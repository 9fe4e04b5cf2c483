import { expect, test } from 'vitest'
import { measureReceiptStorage } from '../../../../gpu-node/bench/storage/receipt-storage.ts'
import { ROOT } from '../../../../infra/local/toolchain/toolchain.mjs'
import { temporaryDir } from '../../../support/harness/temporary.ts'

test('receipts are stored in workerd, and the old ones are deleted', async () => {
  const said: string[] = []
  await measureReceiptStorage(
    [{ name: 'this', root: ROOT }],
    { stored: 100, batchSizes: [2], repetitions: 1 },
    { home: temporaryDir(), print: (text) => said.push(text) },
  )
  expect(said.join('\n')).toMatch(/^insert 2 receipts, this .* ms[^]*^delete old receipts, this +100 in /m)
})
