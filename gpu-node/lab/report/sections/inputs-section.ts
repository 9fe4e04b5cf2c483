import { formatBytes, formatCount } from '@copal/gpu-node/platform/quantities.ts'
import type { LabResults } from '../../results/lab-results.ts'
import { patternRulesLabel } from '../../results/labels.ts'
import { numberColumn, textColumn, type Cell, type Section, type Table } from '../document/report-document.ts'
import { hashCell, MISSING } from '../document/report-cells.ts'

/**
 * Returns the section with inputs, settings and machine: enough to repeat the run and to tell whether two runs can be
 * compared.
 */
export function inputsSection(results: LabResults): Section {
  const { settings, model, machine } = results
  const rules = patternRulesLabel(settings)
  return {
    title: 'Inputs, settings, machine',
    blocks: [
      domainTable(results),
      properties('Settings', [
        ['Calibration', `${settings.samples} samples of ${settings.length} tokens a dataset`],
        ['Seed', String(settings.seed)],
        ['Propagation', settings.propagation],
        ...(rules === undefined ? [] : [['Single linears', rules]]),
        ['Evaluation window', `${settings.windowTokens} tokens, the first not scored`],
        [
          'Evaluation text',
          settings.evaluationTokens === null
            ? 'whole'
            : `at most ${formatCount(settings.evaluationTokens)} tokens a domain`,
        ],
      ]),
      properties('Model', [
        ['Name', model.id],
        ['Parameters', formatCount(model.parameters)],
        ['Decoder blocks', String(model.layers)],
        ['Hidden size', String(model.hidden)],
        ['Dense weights', hashCell(model.baseSha256)],
      ]),
      properties('Machine', [
        ['Processor', machine.cpu],
        ['Cores used', String(machine.cores)],
        ['Memory', formatBytes(machine.memoryBytes)],
        ['System', machine.os],
        ['ONNX Runtime', machine.onnxruntime],
        ['copal', results.version],
        ['Begun', results.created],
      ]),
    ],
  }
}

function domainTable({ domains }: LabResults): Table {
  return {
    kind: 'table',
    caption: 'Texts; hashes are the first 16 digits of SHA-256',
    columns: [
      textColumn('Domain'),
      textColumn('Calibration file'),
      textColumn('Hash'),
      numberColumn('Tokens'),
      textColumn('Evaluation hash'),
      numberColumn('Scored tokens'),
      numberColumn('Windows'),
    ],
    rows: domains.map(({ name, calibration, evaluation }) => [
      name,
      calibration ? { text: calibration.path, style: 'code' } : 'never calibrated on',
      calibration ? hashCell(calibration.sha256) : MISSING,
      calibration ? formatCount(calibration.tokens) : MISSING,
      hashCell(evaluation.sha256),
      formatCount(evaluation.tokens),
      formatCount(evaluation.windows),
    ]),
  }
}

function properties(caption: string, rows: Cell[][]): Table {
  return { kind: 'table', caption, columns: [textColumn(''), textColumn('')], rows }
}
