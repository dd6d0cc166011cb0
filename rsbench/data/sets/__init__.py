"""One small file per dataset: its card and its reader.

A card (``rsbench.data.card.DatasetCard``) names its reader as ``module:function``. Every reader has the
signature of ``rsbench.data.store.Reader``::

    def read(source: Path | None, captions: Path | None, card: DatasetCard,
             options: ReadOptions, progress: Progress) -> Parts

* ``source``: image folder, zip or tar (of region features or shards, too); ``captions``: JSON or CSV file.
  A reader whose card says ``generated=True``
  is called with None for both and makes the dataset.
* ``options.image_size``: the side in pixels of the images it yields.
* ``progress(what, done, total)``: only for the reader's own long work; ``write_store`` reports the packing.
* It returns ``rsbench.data.store.Parts``, with ``images`` or with ``regions``.
  Nothing is written by a reader; ``write_store`` writes, computes
  the fingerprint, and drops ``Unreadable`` images consistently if ``--allow-partial`` was given.
"""
