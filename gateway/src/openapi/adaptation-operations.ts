import {
  createUpdate,
  driftQuery,
  driftReport,
  evaluateText,
  forceUpdate,
  importedMask,
  maskEntry,
  masksQuery,
  nodeEntry,
  rollback,
  rolledBack,
  statusReport,
  storedPart,
  updateEntry,
} from '@copal/shared/wire/admin.ts'
import { policyReport, setPolicy } from '@copal/shared/wire/admin-policy.ts'
import { triggersReport } from '@copal/shared/wire/admin-triggers.ts'
import { pageOf } from '@copal/shared/wire/paging.ts'
import { importMask } from '@copal/shared/wire/mask-import.ts'
import { joinMaskParts } from '@copal/shared/wire/mask-parts.ts'
import { sha256Hex } from '@copal/shared/wire/identifiers.ts'
import {
  canaryReport,
  endedTrial,
  shadowReport,
  startCanary,
  startTrial,
} from '@copal/shared/wire/admin-trials.ts'
import { trialCourses } from '@copal/shared/wire/admin-trial-course.ts'
import { NODE_HEADER } from './headers.ts'
import { listOf, named, operationsOf } from './operation.ts'

/** Errors of operations that find a model by its optional name. */
const NO_MODEL = ['model_not_found', 'no_node_available'] as const

const ofModel = {
  query: { model: 'Id of the model. Optional if there is only one.' },
  errors: ['invalid_request', ...NO_MODEL],
} as const

/** Errors of a node that evaluates a text. */
const EVALUATING = [
  'context_length_exceeded',
  'mask_invalid',
  'mask_base_mismatch',
  'overloaded',
  'node_failed',
  'deadline_exceeded',
] as const

/** Operations on nodes, updates, masks, policies and trials. */
export const ADAPTATION_OPERATIONS = operationsOf({ tag: 'Adaptation', key: 'operator' }, [
  {
    method: 'get',
    path: '/admin/status',
    id: 'getStatus',
    summary: 'Reports models, nodes and the masks that they serve.',
    response: named('Status', statusReport),
  },
  {
    method: 'get',
    path: '/admin/nodes',
    id: 'listNodes',
    summary: 'Lists nodes with their weight sets and load.',
    response: listOf('Node', nodeEntry),
  },
  {
    method: 'put',
    path: '/admin/nodes/{id}/drain',
    id: 'drainNode',
    summary:
      'Drains a node before it is stopped: it gets no new requests, and its running requests continue.',
    response: named('Node', nodeEntry),
    errors: ['not_found'],
  },
  {
    method: 'delete',
    path: '/admin/nodes/{id}/drain',
    id: 'undrainNode',
    summary: 'Ends the draining of a node: it gets requests again.',
    response: named('Node', nodeEntry),
    errors: ['not_found'],
  },
  {
    method: 'post',
    path: '/admin/updates',
    id: 'createUpdate',
    summary:
      'Starts an update: it calibrates a new mask on samples, and activates the mask if it passes the gate.',
    body: named('CreateUpdate', createUpdate),
    response: named('Update', updateEntry),
    status: 201,
    errors: [...NO_MODEL, 'conflict', 'insufficient_samples'],
  },
  {
    method: 'get',
    path: '/admin/updates',
    id: 'listUpdates',
    summary: 'Lists updates, newest first.',
    response: listOf('Update', updateEntry),
  },
  {
    method: 'get',
    path: '/admin/updates/{id}',
    id: 'getUpdate',
    summary: 'Returns an update with its progress and what was decided about its masks.',
    response: named('Update', updateEntry),
    errors: ['not_found'],
  },
  {
    method: 'get',
    path: '/admin/updates/{id}/trials',
    id: 'getUpdateTrials',
    summary:
      'Returns how the evidence of the canary of an update, and of the watch of its mask, grew with the scored requests.',
    response: named('TrialCourses', trialCourses),
    errors: ['not_found'],
  },
  {
    method: 'post',
    path: '/admin/updates/{id}/cancel',
    id: 'cancelUpdate',
    summary:
      'Cancels a running update. Responds 409 once a node serves its mask, which can then only be rolled back.',
    response: named('Update', updateEntry),
    errors: ['not_found', 'conflict'],
  },
  {
    method: 'post',
    path: '/admin/updates/{id}/force',
    id: 'forceUpdate',
    summary:
      'Activates a mask that the gate rejected for being worse. The decision keeps the reason and the id of the admin key. Responds 409 for a mask that does not generate text, and for all but the newest update of a model.',
    body: named('ForceUpdate', forceUpdate),
    response: named('Update', updateEntry),
    errors: ['not_found', 'conflict'],
  },
  {
    method: 'get',
    path: '/admin/policy',
    id: 'getPolicy',
    summary:
      'Returns the adaptation policy of a model: gate, canary, watch, statistics, triggers, effort, influence and discovery.',
    ...ofModel,
    response: named('Policy', policyReport),
  },
  {
    method: 'put',
    path: '/admin/policy',
    id: 'setPolicy',
    summary: 'Replaces the changes to the adaptation policy of a model; an empty object removes them all.',
    body: named('SetPolicy', setPolicy),
    response: named('Policy', policyReport),
    errors: [...NO_MODEL, 'conflict'],
  },
  {
    method: 'get',
    path: '/admin/triggers',
    id: 'getTriggers',
    summary:
      'Reports which domains are due for an update and why, what runs, and when the next update may start by itself.',
    ...ofModel,
    response: named('Triggers', triggersReport),
  },
  {
    method: 'get',
    path: '/admin/masks',
    id: 'listMasks',
    summary: 'Lists the masks of a model, newest first.',
    querySchema: masksQuery,
    errors: ofModel.errors,
    response: named('MaskPage', pageOf(maskEntry)),
  },
  {
    method: 'get',
    path: '/admin/masks/{version}/file',
    id: 'getMaskFile',
    summary: 'Returns the file of a mask.',
    headers: {
      etag: {
        description: 'The SHA-256 of the file, in quotation marks.',
        required: true,
        schema: { type: 'string' },
      },
    },
    ...ofModel,
    errors: [...ofModel.errors, 'not_found'],
    response: 'application/octet-stream',
  },
  {
    method: 'put',
    path: '/admin/masks/{version}/pin',
    id: 'pinMask',
    summary: 'Keeps the file of a mask, however old it is. 409 if it was deleted already.',
    ...ofModel,
    errors: [...ofModel.errors, 'not_found', 'conflict'],
    response: named('Mask', maskEntry),
  },
  {
    method: 'delete',
    path: '/admin/masks/{version}/pin',
    id: 'unpinMask',
    summary: 'Lets the file of a mask be deleted when nothing has used it for long.',
    ...ofModel,
    errors: [...ofModel.errors, 'not_found', 'conflict'],
    response: named('Mask', maskEntry),
  },
  {
    method: 'put',
    path: '/admin/masks/{sha256}',
    id: 'importMask',
    summary:
      'Uploads a mask file under its SHA-256 and registers it as a mask version. With `activate` an update evaluates the mask, and activates it if it passes the gate. A mask that was active before becomes active again at once, unless it was rolled back (409).',
    params: { sha256: sha256Hex },
    querySchema: importMask,
    takesFile: true,
    response: named('ImportedMask', importedMask),
    status: 201,
    errors: [...NO_MODEL, 'conflict', 'mask_invalid', 'mask_base_mismatch'],
  },
  {
    method: 'post',
    path: '/admin/masks/{sha256}',
    id: 'joinMaskParts',
    summary: 'Joins the uploaded parts of a mask file and registers it as a mask version.',
    params: { sha256: sha256Hex },
    querySchema: importMask,
    body: named('JoinMaskParts', joinMaskParts),
    response: named('ImportedMask', importedMask),
    status: 201,
    errors: [...NO_MODEL, 'not_found', 'conflict', 'mask_invalid', 'mask_base_mismatch'],
  },
  {
    method: 'put',
    path: '/admin/masks/{sha256}/parts/{part}',
    id: 'putMaskPart',
    summary: 'Uploads one part of a mask file under the SHA-256 of the part.',
    params: { sha256: sha256Hex, part: sha256Hex },
    takesFile: true,
    response: named('MaskPart', storedPart),
    status: 201,
    errors: ['mask_invalid'],
  },
  {
    method: 'post',
    path: '/admin/rollback',
    id: 'rollBack',
    summary:
      'Activates the previous mask, or a named earlier one. A mask that was rolled back must be named (409). The updates since then become `rolled_back`, and their texts do not count any more.',
    body: named('Rollback', rollback),
    response: named('RolledBack', rolledBack),
    errors: [...NO_MODEL, 'not_found', 'conflict'],
  },
  {
    method: 'get',
    path: '/admin/canary',
    id: 'getCanary',
    summary: 'Compares the canary mask with the active one.',
    ...ofModel,
    response: named('Canary', canaryReport),
  },
  {
    method: 'put',
    path: '/admin/canary',
    id: 'startCanary',
    summary:
      'Starts a canary: a mask serves a share of the conversations until another mask becomes active. Responds 409 for a mask that was never active and has not passed the gate.',
    body: named('StartCanary', startCanary),
    response: named('Canary', canaryReport),
    errors: [...NO_MODEL, 'not_found', 'conflict'],
  },
  {
    method: 'delete',
    path: '/admin/canary',
    id: 'endCanary',
    summary: 'Ends the canary: the active mask serves all conversations again.',
    ...ofModel,
    errors: [...ofModel.errors, 'conflict'],
    response: named('EndedTrial', endedTrial),
  },
  {
    method: 'get',
    path: '/admin/shadow',
    id: 'getShadow',
    summary:
      'Compares the loss under the shadow mask with the loss under the active mask, on the same tokens.',
    ...ofModel,
    response: named('Shadow', shadowReport),
  },
  {
    method: 'put',
    path: '/admin/shadow',
    id: 'startShadow',
    summary:
      'Starts a shadow: a registered mask scores a share of the requests that may be sampled, until another mask becomes active.',
    body: named('StartTrial', startTrial),
    response: named('Shadow', shadowReport),
    errors: [...NO_MODEL, 'not_found', 'conflict'],
  },
  {
    method: 'delete',
    path: '/admin/shadow',
    id: 'endShadow',
    summary: 'Ends the shadow. Its scores are kept for 30 days.',
    ...ofModel,
    errors: [...ofModel.errors, 'conflict'],
    response: named('EndedTrial', endedTrial),
  },
  {
    method: 'post',
    path: '/admin/evaluate',
    id: 'evaluateText',
    summary: 'Computes the perplexity of a text under a mask; streams progress lines and a result line.',
    body: named('EvaluateText', evaluateText),
    response: 'application/x-ndjson',
    headers: { 'x-copal-node': NODE_HEADER },
    errors: [...NO_MODEL, 'not_found', ...EVALUATING],
  },
  {
    method: 'get',
    path: '/admin/drift',
    id: 'getDrift',
    summary: 'Reports the cost of pruning for each domain and mask, on live traffic and on held-out text.',
    querySchema: driftQuery,
    errors: [...ofModel.errors, 'not_found'],
    response: named('Drift', driftReport),
  },
])
