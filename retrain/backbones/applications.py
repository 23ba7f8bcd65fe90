"""The networks of keras.applications, and what must be known of them before TensorFlow is there."""

# (paper, licence of the weights as keras.io gave it, {name: (px, numbers in an embedding)})
FAMILIES = [
    ("arXiv:2201.03545", "MIT", {
        "ConvNeXtTiny": (224, 768), "ConvNeXtSmall": (224, 768), "ConvNeXtBase": (224, 1024),
        "ConvNeXtLarge": (224, 1536), "ConvNeXtXLarge": (224, 2048),
    }),
    ("arXiv:1608.06993", "BSD-3-Clause", {
        "DenseNet121": (224, 1024), "DenseNet169": (224, 1664), "DenseNet201": (224, 1920),
    }),
    ("arXiv:1905.11946", "Apache-2.0", {
        "EfficientNetB0": (224, 1280), "EfficientNetB1": (240, 1280), "EfficientNetB2": (260, 1408),
        "EfficientNetB3": (300, 1536), "EfficientNetB4": (380, 1792), "EfficientNetB5": (456, 2048),
        "EfficientNetB6": (528, 2304), "EfficientNetB7": (600, 2560),
    }),
    ("arXiv:2104.00298", "Apache-2.0", {
        "EfficientNetV2B0": (224, 1280), "EfficientNetV2B1": (240, 1280), "EfficientNetV2B2": (260, 1408),
        "EfficientNetV2B3": (300, 1536), "EfficientNetV2S": (384, 1280), "EfficientNetV2M": (480, 1280),
        "EfficientNetV2L": (480, 1280),
    }),
    ("arXiv:1602.07261", "Apache-2.0", {"InceptionResNetV2": (299, 1536)}),
    ("arXiv:1512.00567", "Apache-2.0", {"InceptionV3": (299, 2048)}),
    ("arXiv:1704.04861", "Apache-2.0", {"MobileNet": (224, 1024)}),
    ("arXiv:1801.04381", "Apache-2.0", {"MobileNetV2": (224, 1280)}),
    ("arXiv:1905.02244", "Apache-2.0", {"MobileNetV3Small": (224, 576), "MobileNetV3Large": (224, 960)}),
    ("arXiv:1707.07012", "Apache-2.0", {"NASNetMobile": (224, 1056), "NASNetLarge": (331, 4032)}),
    ("arXiv:1512.03385", "MIT", {"ResNet50": (224, 2048), "ResNet101": (224, 2048), "ResNet152": (224, 2048)}),
    ("arXiv:1603.05027", "BSD-3-Clause", {
        "ResNet50V2": (224, 2048), "ResNet101V2": (224, 2048), "ResNet152V2": (224, 2048),
    }),
    ("arXiv:1409.1556", "CC-BY-4.0", {"VGG16": (224, 512), "VGG19": (224, 512)}),
    ("arXiv:1610.02357", "MIT", {"Xception": (299, 2048)}),
]  # fmt: skip
