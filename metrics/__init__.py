"""How close synthesized images are to real ones, and how varied: measured the same way for every command.

``extractors``        the networks that features come from
``inception``         the one of FID, and its weights
``images``            pixels of image files
``statistics``        mean and covariance of features, gathered in batches
``distances``         FID and KID, from features of any extractor
``protocol``          what was measured, how, and whether two measurements compare; the way from pixels to statistics
``statistics_files``  statistics on disk, with their protocol
``diversity``         how much the pictures of one layout differ, and what other styles of a region change
``perceptual``        distances between pictures
``looks``             colours of instances: their spread
``segmentation_scores``  intersection over union and accuracies; ``segmenters`` and ``lite0_segmenter``, their networks
"""
