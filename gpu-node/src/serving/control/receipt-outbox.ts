import { open as openFile, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { toAppError } from '@copal/shared/errors.ts'
import { receipt as receiptSchema, type Receipt } from '@copal/shared/wire/receipts.ts'
import { reasonOf, type Log } from '../../platform/log.ts'
import { readIfThere, writeAtomically } from '../../platform/atomic-file.ts'
import type { GatewayClient } from './gateway-client.ts'

/** Delivers receipts to the gateway. They stay on disk until acknowledged, and are sent again after a restart. */
export interface ReceiptOutbox {
  /** Adds a receipt. It is written to disk soon and sent with the next batch. */
  add(receipt: Receipt): void
  /** Returns the number of receipts that are not acknowledged. */
  pending(): number
  /** Sends the waiting receipts once; settles when they are acknowledged or the gateway is unreachable. */
  flush(): Promise<void>
  start(): void
  /** Sends the waiting receipts a last time and closes the file; unacknowledged receipts stay in it. */
  stop(): Promise<void>
}

/** Parts of a {@link ReceiptOutbox}. */
export interface ReceiptOutboxDeps {
  home: string
  nodeId: string
  gateway: Pick<GatewayClient, 'receipts'>
  log: Log
  intervalMs?: number
  /**
   * The number of waiting receipts from which they are sent at once; default never. The requests of a node keep their places in
   * the gateway until it has their receipts.
   */
  urgentFrom?: number
  /** Largest number of receipts; beyond it the oldest are dropped. */
  capacity?: number
  /** For tests of full disks. */
  openFile?: typeof openFile
}

/** Largest batch that the wire schema allows. */
const MAX_BATCH = 256

/**
 * Opens `<home>/receipts.jsonl`, to which receipts are appended, one per line. A line is removed once the gateway has
 * acknowledged its batch. Settlement is idempotent, so lines that remain after a crash are sent again.
 *
 * @throws AppError `internal_error` when the file exists but cannot be read; it is left unchanged
 */
export async function openReceiptOutbox(deps: ReceiptOutboxDeps): Promise<ReceiptOutbox> {
  const path = join(deps.home, 'receipts.jsonl')
  const capacity = deps.capacity ?? 100_000
  const { intervalMs = 200, urgentFrom = Infinity } = deps
  let waiting = await readReceipts(path, deps.log)
  /** Lines of the file once all queued writes are done. */
  let lines = waiting.length
  let file: FileHandle = await rewrite()
  /** A write failed, as on a full disk: the file lacks receipts, and may end within a line. */
  let isIncomplete = false
  let disk = Promise.resolve()
  let sending: Promise<void> | undefined
  let timer: NodeJS.Timeout | undefined
  let failures = 0
  let stopped = false
  let started = false

  /** Replaces the file by the waiting receipts, and opens it for appending. */
  async function rewrite(): Promise<FileHandle> {
    await writeAtomically(path, waiting.map((receipt) => `${JSON.stringify(receipt)}\n`).join(''))
    return (deps.openFile ?? openFile)(path, 'a')
  }

  function onDisk(write: () => Promise<void>): void {
    disk = disk.then(write).catch((error: unknown) => {
      if (!isIncomplete)
        deps.log.error('receipts cannot be written to disk', { path, reason: reasonOf(error) })
      isIncomplete = true
    })
  }

  /** Appends a receipt, unless the file has to be rewritten with all of them. */
  function append(receipt: Receipt): void {
    lines += 1
    onDisk(async () => {
      if (!isIncomplete) await file.appendFile(`${JSON.stringify(receipt)}\n`)
    })
  }

  /** Rewrites the file once most lines are acknowledged, so that it stays bounded without a rewrite per batch. */
  function compact(): void {
    const isWorthIt = waiting.length === 0 ? lines > 0 : lines > 2 * waiting.length + 1024
    if (isWorthIt) replaceFile()
  }

  function replaceFile(): void {
    lines = waiting.length
    onDisk(async () => {
      const next = await rewrite()
      await file.close()
      file = next
      isIncomplete = false
    })
  }

  /** Sends the receipts that wait now. Receipts that arrive meanwhile form the next batch, so that batches stay large. */
  async function send(): Promise<void> {
    if (isIncomplete) replaceFile()
    const due = waiting.slice()
    while (due.length > 0) {
      const batch = due.splice(0, MAX_BATCH)
      try {
        await deliver(batch)
      } catch (error) {
        if (failures === 0)
          deps.log.warn('receipts wait for the gateway', { waiting: waiting.length, reason: reasonOf(error) })
        failures += 1
        return
      }
      failures = 0
      const acknowledged = new Set(batch)
      waiting = waiting.filter((receipt) => !acknowledged.has(receipt))
    }
    compact()
  }

  /** Sends a batch. A batch that is rejected permanently is sent one by one, so that an invalid receipt blocks no other. */
  async function deliver(batch: readonly Receipt[]): Promise<void> {
    try {
      await deps.gateway.receipts({ nodeId: deps.nodeId, receipts: [...batch] })
    } catch (error) {
      const { code, retryable } = toAppError(error)
      if (retryable || code === 'invalid_signature' || code === 'not_found') throw error
      if (batch.length > 1) {
        for (const receipt of batch) await deliver([receipt])
      } else {
        deps.log.error('the gateway refuses a receipt', {
          requestId: batch[0]?.requestId,
          reason: reasonOf(error),
        })
      }
    }
  }

  function flush(): Promise<void> {
    sending ??= send().finally(() => {
      sending = undefined
      sendIfUrgent()
    })
    return sending
  }

  function sendIfUrgent(): void {
    // A gateway that fails is asked again after the next interval.
    if (started && !stopped && failures === 0 && waiting.length >= urgentFrom) void flush()
  }

  function schedule(): void {
    if (stopped) return
    const waitMs = Math.min(8_000, intervalMs * 2 ** Math.min(failures, 10))
    timer = setTimeout(() => void flush().then(schedule), waitMs)
  }

  return {
    add(receipt) {
      waiting.push(receipt)
      if (waiting.length > capacity) {
        const dropped = Math.ceil(capacity / 10)
        waiting = waiting.slice(dropped)
        deps.log.error('the outbox is full: the oldest receipts are dropped', { dropped })
      }
      append(receipt)
      compact()
      sendIfUrgent()
    },
    pending: () => waiting.length,
    flush,
    start() {
      started = true
      schedule()
    },
    async stop() {
      stopped = true
      clearTimeout(timer)
      await sending
      await flush()
      await disk
      await file.close()
    },
  }
}

async function readReceipts(path: string, log: Log): Promise<Receipt[]> {
  const text = (await readIfThere(path)) ?? ''
  const receipts: Receipt[] = []
  let damaged = 0
  for (const line of text.split('\n')) {
    if (line === '') continue
    try {
      receipts.push(receiptSchema.parse(JSON.parse(line)))
    } catch {
      // A process that was killed while it wrote leaves a partial last line.
      damaged += 1
    }
  }
  if (damaged) log.warn('damaged lines in the receipts file are dropped', { path, damaged })
  return receipts
}
