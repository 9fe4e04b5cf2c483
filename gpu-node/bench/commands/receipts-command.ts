import type { Command } from 'commander'
import { ROOT } from '../../../infra/local/toolchain/toolchain.mjs'
import { measureReceiptStorage } from '../storage/receipt-storage.ts'
import { count, counts, type Workbench } from './workbench.ts'

interface ReceiptsOptions {
  stored: number
  batch: number[]
  repetitions: number
  baseline?: string
}

/** Adds the benchmark of storing and deleting receipts. */
export function addReceipts(program: Command, { home, print }: Workbench): void {
  program
    .command('receipts')
    .description("storing and deleting receipts in workerd's D1")
    .option('--stored <n>', 'old receipts in the database', count, 1_000_000)
    .option('--batch <n,…>', 'receipts of a batch', counts, [16, 256])
    .option('--repetitions <n>', 'number of interleaved repetitions', count, 40)
    .option('--baseline <folder>', 'a checkout of another version, to compare with')
    .action(async ({ stored, batch, repetitions, baseline }: ReceiptsOptions) => {
      const checkouts = [
        ...(baseline === undefined ? [] : [{ name: 'baseline', root: baseline }]),
        { name: 'this', root: ROOT },
      ]
      print(`${stored} old receipts, batches of 10 domains under 2 masks`)
      await measureReceiptStorage(checkouts, { stored, batchSizes: batch, repetitions }, { home, print })
    })
}
