import type { ProgressBar } from '../../../gpu-node/cli/output/progress-bar.ts'
import { openModel } from '../../../gpu-node/src/model/open-model.ts'
import { formatDuration } from '../../../gpu-node/src/platform/quantities.ts'
import { offerGpu } from '../build-gpu.mjs'
import { offerNative, type BuildOptions } from '../build-native.mjs'
import type { Settings } from '../service/service-settings.ts'
import { createPreparationProgress } from './preparation-progress.ts'

/**
 * Builds the addons of a node unless they are there, and fetches its model meanwhile. If nothing is to be built it does
 * not open the model: the node does so itself.
 *
 * @param signal aborts both
 * @param native replaces cargo and its workspace in tests
 * @throws AppError when the model cannot be fetched or converted; the build has ended by then. A failed build is only
 * a printed line.
 */
export async function prepareNode(
  { model, cache }: Pick<Settings, 'model' | 'cache'>,
  bar: ProgressBar,
  signal: AbortSignal,
  native: Pick<BuildOptions, 'cargo' | 'workspace'> = {},
): Promise<void> {
  const progress = createPreparationProgress(bar)
  // Nothing is drawn below the line that says that the service stops.
  signal.addEventListener('abort', () => progress.end())
  const failed = new AbortController()
  const eitherSignal = AbortSignal.any([signal, failed.signal])
  let fetching: Promise<void> | undefined
  const build = async (offer: typeof offerNative, name: string): Promise<void> => {
    const startedAtMs = Date.now()
    const outcome = await offer(progress.print, {
      ...native,
      signal: eitherSignal,
      onStart() {
        fetching ??= fetchModel()
      },
      // Into a file or pipe the line that announces the build is enough.
      ...(process.stdout.isTTY ? { onProgress: progress.onBuild } : {}),
    })
    const time = formatDuration(Date.now() - startedAtMs)
    progress.endBuild(outcome === 'built' ? `The ${name} was built in ${time}.` : undefined)
  }
  const fetchModel = async (): Promise<void> => {
    try {
      await openModel(model, { cacheDir: cache, onProgress: progress.onModel, signal: eitherSignal })
      progress.endModel()
    } catch (error) {
      progress.end()
      failed.abort(error)
    }
  }
  try {
    await build(offerNative, 'native addon')
    eitherSignal.throwIfAborted()
    if (process.env.COPAL_BACKEND === 'gpu') await build(offerGpu, 'GPU addon')
    await fetching
    eitherSignal.throwIfAborted()
  } finally {
    progress.end()
  }
}
